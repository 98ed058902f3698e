/* The contestant on plain blocking sockets: what is left is the server and the kernel, so this is the limit.
 * Its workers keep as many grabs in flight as WINDOW says.
 * The harness also fills queues (submit) and empties them (purge) with it. */
#include "common.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

enum {
    CAN_DO = 1,
    PRE_SLEEP = 4,
    NOOP = 6,
    SUBMIT_JOB = 7,
    JOB_CREATED = 8,
    GRAB_JOB = 9,
    NO_JOB = 10,
    JOB_ASSIGN = 11,
    WORK_COMPLETE = 13,
    SUBMIT_JOB_BG = 18,
    HEADER = 12
};

struct packet {
    unsigned type;
    size_t size;
    const char *body;
};

/* A connection for each thread. */
static _Thread_local int fd;
static _Thread_local char in[LARGE_PAYLOAD + (1 << 16)], out[LARGE_PAYLOAD + (1 << 18)];
static _Thread_local size_t in_start, in_end, out_size;

static void *dial(const struct plan *plan)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)plan->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect", "refused");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return NULL;
}

static void flush(void)
{
    for (size_t sent = 0; sent < out_size;) {
        ssize_t n = send(fd, out + sent, out_size - sent, MSG_NOSIGNAL);
        if (n <= 0) die("send", "the server is gone");
        sent += (size_t)n;
    }
    out_size = 0;
}

static void put(const void *bytes, size_t size)
{
    if (size > sizeof out - out_size) die("put", "the window is too large for the buffer");
    memcpy(out + out_size, bytes, size);
    out_size += size;
}

static void put_header(unsigned type, size_t size)
{
    uint32_t words[] = {htonl(0x00524551), htonl(type), htonl((uint32_t)size)};
    put(words, sizeof words);
}

static bool buffered(struct packet *packet)
{
    uint32_t words[3];
    size_t have = in_end - in_start;
    if (have < HEADER) return false;
    memcpy(words, in + in_start, sizeof words);
    packet->type = ntohl(words[1]);
    packet->size = ntohl(words[2]);
    packet->body = in + in_start + HEADER;
    if (words[0] != htonl(0x00524553) || packet->size > sizeof in - HEADER)
        die("receive", "not a packet of this benchmark");
    if (have - HEADER < packet->size) return false;
    in_start += HEADER + packet->size;
    return true;
}

static struct packet receive(void)
{
    struct packet packet;
    while (!buffered(&packet)) {
        if (in_start > 0) memmove(in, in + in_start, in_end - in_start);
        in_end -= in_start;
        in_start = 0;
        ssize_t n = recv(fd, in + in_end, sizeof in - in_end, 0);
        if (n <= 0) die("receive", "the server is gone");
        in_end += (size_t)n;
    }
    return packet;
}

static struct packet expect(unsigned type)
{
    struct packet packet = receive();
    if (packet.type != type) die("receive", "an unexpected packet");
    return packet;
}

static void put_sized_job(unsigned type, const char *function, long number, size_t size)
{
    static _Thread_local char payload[LARGE_PAYLOAD];
    char unique[UNIQUE + 1] = {0};
    digits(unique, UNIQUE, number);
    digits(payload, size, number);
    put_header(type, strlen(function) + 1 + UNIQUE + 1 + size);
    put(function, strlen(function) + 1);
    put(unique, UNIQUE + 1);
    put(payload, size);
}

static void put_job(unsigned type, const char *function, long number)
{
    put_sized_job(type, function, number, PAYLOAD);
}

static void submit(void *client, const struct plan *plan, long number, long count)
{
    (void)client;
    for (long i = 0; i < count; i++) put_job(SUBMIT_JOB_BG, plan->function, number + i);
    flush();
    for (long i = 0; i < count; i++) expect(JOB_CREATED);
}

static void submit_large(void *client, const struct plan *plan, long number, long count)
{
    (void)client;
    (void)count;
    put_sized_job(SUBMIT_JOB_BG, plan->function, number, LARGE_PAYLOAD);
    flush();
    expect(JOB_CREATED);
}

static void request(void *client, const struct plan *plan, long number, long count)
{
    char payload[PAYLOAD];
    (void)client;
    (void)count;
    put_job(SUBMIT_JOB, plan->function, number);
    flush();
    expect(JOB_CREATED);
    struct packet result = expect(WORK_COMPLETE);
    digits(payload, PAYLOAD, number);
    if (result.size <= PAYLOAD || memcmp(result.body + result.size - PAYLOAD, payload, PAYLOAD))
        die("request", "the result is not the payload");
}

/* The number that a result says, if it is one of `count` from `number` on. */
static long number_of(const struct packet *result, long number, long count)
{
    char payload[PAYLOAD + 1] = {0};
    if (result->size <= PAYLOAD) die("request", "the result is too short");
    memcpy(payload, result->body + result->size - PAYLOAD, PAYLOAD);
    long found = strtol(payload, NULL, 10) - number;
    if (found < 0 || found >= count) die("request", "the result is no payload");
    return found;
}

static void request_set(void *client, const struct plan *plan, long number, long count)
{
    static bool *seen;
    long created = 0, completed = 0;
    (void)client;
    if (!seen) seen = malloc((size_t)count);
    memset(seen, 0, (size_t)count);
    for (long i = 0; i < count; i++) put_job(SUBMIT_JOB, plan->function, number + i);
    flush();
    while (completed < count) {
        struct packet packet = receive();
        if (packet.type == JOB_CREATED) {
            created++;
        } else if (packet.type == WORK_COMPLETE) {
            long found = number_of(&packet, number, count);
            if (seen[found]) die("request", "the same result twice");
            seen[found] = true;
            completed++;
        } else {
            die("receive", "an unexpected packet");
        }
    }
    if (created != count) die("request", "a job was not created");
}

static void answer(const struct packet *job)
{
    const char *function = memchr(job->body, 0, job->size);
    size_t handle = function ? (size_t)(function + 1 - job->body) : job->size;
    const char *nul = memchr(job->body + handle, 0, job->size - handle);
    if (!nul) die("receive", "a job without data");
    size_t data = (size_t)(nul + 1 - job->body);
    put_header(WORK_COMPLETE, handle + job->size - data);
    put(job->body, handle);
    put(job->body + data, job->size - data);
    put_header(GRAB_JOB, 0);
}

static void run_worker(const struct plan *plan, bool counted, bool until_empty)
{
    long arrived = 0, grabs = plan->window;
    struct packet packet;
    dial(plan);
    put_header(CAN_DO, strlen(plan->function));
    put(plan->function, strlen(plan->function));
    for (long i = 0; i < grabs; i++) put_header(GRAB_JOB, 0);
    for (;;) {
        if (!buffered(&packet)) {
            flush();
            packet = receive();
        }
        if (packet.type == JOB_ASSIGN) {
            if (counted) count_job(plan, ++arrived);
            answer(&packet);
        } else if (packet.type == NO_JOB) {
            if (--grabs == 0) {
                if (until_empty) {
                    flush();
                    return;
                }
                put_header(PRE_SLEEP, 0);
            }
        } else if (packet.type == NOOP) {
            for (; grabs < plan->window; grabs++) put_header(GRAB_JOB, 0);
        } else {
            die("receive", "an unexpected packet");
        }
    }
}

int main(int argc, char **argv)
{
    struct plan plan = plan_from(argc, argv);

    if (!strcmp(plan.role, "submit") || !strcmp(plan.role, "submit-built") || !strcmp(plan.role, "submit-default") ||
        !strcmp(plan.role, "submit-set"))
        run_client(&plan, dial, submit, plan.window);
    else if (!strcmp(plan.role, "submit-large"))
        run_client(&plan, dial, submit_large, 1);
    else if (!strcmp(plan.role, "request"))
        run_client(&plan, dial, request, 1);
    else if (!strcmp(plan.role, "request-set"))
        run_client(&plan, dial, request_set, plan.window);
    else if (!strcmp(plan.role, "request-threads"))
        run_threads(&plan, dial, request);
    else if (!strcmp(plan.role, "drain") || !strcmp(plan.role, "work"))
        run_worker(&plan, plan.role[0] == 'd', false);
    else if (!strcmp(plan.role, "purge"))
        run_worker(&plan, false, true);
    else
        die(plan.role, "is no role of this program");
    return 0;
}
