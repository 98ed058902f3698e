#ifndef GM_ATTRIBUTES_H
#define GM_ATTRIBUTES_H

/*
 * What runs for each job lies together (GM_HOT), and what hardly ever runs lies elsewhere (GM_COLD):
 * between two jobs the server evicts the client from the processor's caches, so that each line and page of code costs
 * more than the instructions in it.
 */
#ifdef __GNUC__
#define GM_HOT __attribute__((hot))
#define GM_COLD __attribute__((cold))
#define GM_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define GM_UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#else
#define GM_HOT
#define GM_COLD
#define GM_LIKELY(condition) (condition)
#define GM_UNLIKELY(condition) (condition)
#endif

#endif
