#include "replies.h"

#include <string.h>

enum { INITIAL_EXPECTED = 16 };

/* A reply that is owed. */
struct gm_expected_reply {
    gm_command request;
    uint32_t conversation;
    uint32_t slot;
    uint64_t end;
};

/* An open job: the slots that wait for it. The server sends each of its packets once for every one of them. */
typedef struct gm_open_job {
    struct gm_open_job *older, *newer; /* the neighbours among those that somebody waits for */
    bool listed;
    uint32_t count, capacity, turn;
    uint32_t *slots;
    uint32_t first;  /* what slots points to until there are two */
    gm_slice handle; /* of the bytes below */
    uint8_t bytes[];
} open_job;

GM_HOT VALUE gm_reply_part(const gm_reply *reply, size_t index)
{
    bool data = index == gm_command_find(reply->packet.command)->arguments;
    return data && !NIL_P(reply->payload) ? reply->payload : gm_str_new(reply->parts[index]);
}

VALUE gm_reply_body(const gm_reply *reply)
{
    if (NIL_P(reply->payload)) return gm_str_new(reply->packet.body);
    VALUE body = rb_str_buf_new((long)reply->packet.body.length + RSTRING_LEN(reply->payload));
    rb_str_cat(body, (const char *)reply->packet.body.bytes, (long)reply->packet.body.length);
    rb_str_cat(body, RSTRING_PTR(reply->payload), RSTRING_LEN(reply->payload));
    gm_str_set_encoding(body, gm_ascii_only(gm_slice_of(body)));
    return body;
}

static int compare_handles(st_data_t one, st_data_t other)
{
    const gm_slice *a = (const gm_slice *)one, *b = (const gm_slice *)other;
    return a->length != b->length || memcmp(a->bytes, b->bytes, a->length) != 0;
}

static st_index_t hash_handle(st_data_t key)
{
    const gm_slice *handle = (const gm_slice *)key;
    return st_hash(handle->bytes, handle->length, 0);
}

static const struct st_hash_type handle_hash = {compare_handles, hash_handle};

GM_HOT static void take_off_list(gm_replies *replies, open_job *job)
{
    if (!job->listed) return;
    *(job->older ? &job->older->newer : &replies->quietest) = job->newer;
    *(job->newer ? &job->newer->older : &replies->loudest) = job->older;
    job->listed = false;
}

/* Something was heard of a job, or asked: it comes behind all others. */
GM_HOT static void move_to_end(gm_replies *replies, open_job *job)
{
    if (job->listed && !job->newer) return;
    take_off_list(replies, job);
    job->older = replies->loudest;
    job->newer = NULL;
    *(job->older ? &job->older->newer : &replies->quietest) = job;
    replies->loudest = job;
    job->listed = true;
}

GM_HOT static void free_job(open_job *job)
{
    if (job->slots != &job->first) xfree(job->slots);
    xfree(job);
}

static int free_each_job(st_data_t key, st_data_t value, st_data_t unused)
{
    free_job((open_job *)value);
    return ST_CONTINUE;
}

void gm_replies_init(gm_replies *replies) { *replies = (gm_replies){.conversation = 1}; }

void gm_replies_free(gm_replies *replies)
{
    xfree(replies->expected);
    if (!replies->jobs) return;
    st_foreach(replies->jobs, free_each_job, 0);
    st_free_table(replies->jobs);
}

size_t gm_replies_memsize(const gm_replies *replies)
{
    return replies->expected_capacity * sizeof(gm_expected_reply) + (replies->jobs ? st_memsize(replies->jobs) : 0);
}

GM_HOT bool gm_replies_owed(const gm_replies *replies)
{
    return replies->expected_count > 0 || (replies->jobs && replies->jobs->num_entries > 0);
}

/* Every packet of an open job goes on coming once for each of its submissions. */
static int disown_slots(st_data_t key, st_data_t value, st_data_t unused)
{
    open_job *job = (open_job *)value;
    for (uint32_t i = 0; i < job->count; i++) job->slots[i] = GM_NOBODY;
    job->listed = false;
    return ST_CONTINUE;
}

GM_HOT void gm_replies_begin(gm_replies *replies)
{
    replies->conversation++;
    replies->quietest = replies->loudest = NULL;
    if (replies->jobs) st_foreach(replies->jobs, disown_slots, 0);
}

static bool is_submit(gm_command command)
{
    switch (command) {
    case GM_SUBMIT_JOB:
    case GM_SUBMIT_JOB_HIGH:
    case GM_SUBMIT_JOB_LOW:
    case GM_SUBMIT_REDUCE_JOB:
        return true;
    default:
        return false;
    }
}

bool gm_is_background(gm_command command)
{
    switch (command) {
    case GM_SUBMIT_JOB_BG:
    case GM_SUBMIT_JOB_HIGH_BG:
    case GM_SUBMIT_JOB_LOW_BG:
    case GM_SUBMIT_JOB_SCHED:
    case GM_SUBMIT_JOB_EPOCH:
    case GM_SUBMIT_REDUCE_JOB_BACKGROUND:
        return true;
    default:
        return false;
    }
}

static bool is_grab(gm_command command)
{
    return command == GM_GRAB_JOB || command == GM_GRAB_JOB_UNIQ || command == GM_GRAB_JOB_ALL;
}

static bool has_reply(gm_command request)
{
    return is_submit(request) || gm_is_background(request) || is_grab(request) || request == GM_ECHO_REQ ||
           request == GM_OPTION_REQ || request == GM_GET_STATUS || request == GM_GET_STATUS_UNIQUE;
}

static bool answers(gm_command reply, gm_command request)
{
    switch (reply) {
    case GM_JOB_CREATED:
        return is_submit(request) || gm_is_background(request);
    case GM_ERROR:
        return !is_grab(request);
    case GM_ECHO_RES:
        return request == GM_ECHO_REQ;
    case GM_OPTION_RES:
        return request == GM_OPTION_REQ;
    case GM_STATUS_RES:
        return request == GM_GET_STATUS;
    case GM_STATUS_RES_UNIQUE:
        return request == GM_GET_STATUS_UNIQUE;
    case GM_NO_JOB:
    case GM_JOB_ASSIGN:
    case GM_JOB_ASSIGN_UNIQ:
    case GM_JOB_ASSIGN_ALL:
        return is_grab(request);
    default:
        return false;
    }
}

static gm_expected_reply *expected_at(const gm_replies *replies, size_t index)
{
    return &replies->expected[(replies->expected_head + index) & (replies->expected_capacity - 1)];
}

void gm_replies_grow(gm_replies *replies)
{
    size_t capacity = replies->expected_capacity ? replies->expected_capacity * 2 : INITIAL_EXPECTED;
    gm_expected_reply *ring = ALLOC_N(gm_expected_reply, capacity);
    for (size_t i = 0; i < replies->expected_count; i++) ring[i] = *expected_at(replies, i);
    xfree(replies->expected);
    replies->expected = ring;
    replies->expected_capacity = capacity;
    replies->expected_head = 0;
}

GM_HOT bool gm_replies_expect(gm_replies *replies, gm_command request, uint32_t slot, uint64_t end)
{
    if (GM_UNLIKELY(!has_reply(request))) return false;
    *expected_at(replies, replies->expected_count++) = (gm_expected_reply){request, replies->conversation, slot, end};
    return true;
}

void gm_replies_retract(gm_replies *replies, uint64_t end)
{
    while (replies->expected_count && expected_at(replies, replies->expected_count - 1)->end > end) {
        replies->expected_count--;
    }
}

void gm_replies_disown(gm_replies *replies, uint32_t slot)
{
    for (size_t i = 0; i < replies->expected_count; i++) {
        gm_expected_reply *owed = expected_at(replies, i);
        if (owed->slot == slot && owed->conversation == replies->conversation) owed->conversation = 0;
    }
}

/* The job of a handle; NULL when nobody waits for it. */
GM_HOT static open_job *find_job(gm_replies *replies, gm_slice handle)
{
    st_data_t found;
    if (!replies->jobs || replies->jobs->num_entries == 0) return NULL;
    return st_lookup(replies->jobs, (st_data_t)&handle, &found) ? (open_job *)found : NULL;
}

GM_HOT static void open_slot(gm_replies *replies, gm_slice handle, uint32_t slot)
{
    open_job *job = find_job(replies, handle);
    if (!job) {
        if (!replies->jobs) replies->jobs = st_init_table(&handle_hash);
        job = xmalloc(sizeof(*job) + handle.length);
        *job = (open_job){.count = 1, .capacity = 1, .first = slot, .handle = {job->bytes, handle.length}};
        job->slots = &job->first;
        memcpy(job->bytes, handle.bytes, handle.length);
        st_add_direct(replies->jobs, (st_data_t)&job->handle, (st_data_t)job);
        if (slot != GM_NOBODY) move_to_end(replies, job);
        return;
    }
    if (job->count == job->capacity) {
        uint32_t capacity = job->capacity * 2;
        uint32_t *slots = ALLOC_N(uint32_t, capacity);
        memcpy(slots, job->slots, job->count * sizeof(*slots));
        if (job->slots != &job->first) xfree(job->slots);
        job->slots = slots;
        job->capacity = capacity;
    }
    job->slots[job->count++] = slot;
    if (slot != GM_NOBODY && !job->listed) move_to_end(replies, job);
}

/* The first slot of a job that somebody waits for; GM_NOBODY: none is. */
GM_HOT static uint32_t owned_slot(const open_job *job)
{
    for (uint32_t i = 0; i < job->count; i++) {
        if (job->slots[i] != GM_NOBODY) return job->slots[i];
    }
    return GM_NOBODY;
}

/* Ends one slot of the job of a handle, and with the last one the job. Returns which. */
GM_HOT static uint32_t close_slot(gm_replies *replies, gm_slice handle, uint32_t index)
{
    st_data_t key = (st_data_t)&handle, found;
    if (!replies->jobs || !st_delete(replies->jobs, &key, &found)) return GM_NOBODY;
    open_job *job = (open_job *)found;
    uint32_t slot = job->slots[index];
    if (--job->count == 0) {
        take_off_list(replies, job);
        free_job(job);
        return slot;
    }
    memmove(job->slots + index, job->slots + index + 1, (job->count - index) * sizeof(*job->slots));
    job->turn = 0;
    if (owned_slot(job) == GM_NOBODY) take_off_list(replies, job);
    st_add_direct(replies->jobs, (st_data_t)&job->handle, (st_data_t)job);
    return slot;
}

/* Which slot a packet of an open job is for: they take turns; one that ends the job ends one slot. */
GM_HOT static uint32_t deal(gm_replies *replies, const gm_packet *packet, gm_slice handle)
{
    switch (packet->command) {
    case GM_WORK_COMPLETE:
    case GM_WORK_FAIL:
    case GM_WORK_EXCEPTION:
        return close_slot(replies, handle, 0);
    default: {
        open_job *job = find_job(replies, handle);
        if (!job) return GM_NOBODY;
        if (job->listed) move_to_end(replies, job);
        return job->slots[job->turn++ % job->count];
    }
    }
}

/* Which of the slots of a job is this one; the count of them when none is. */
static uint32_t position_of(const open_job *job, uint32_t slot)
{
    uint32_t index = 0;
    while (index < job->count && job->slots[index] != slot) index++;
    return index;
}

gm_slice gm_replies_quietest(const gm_replies *replies, uint32_t *slot)
{
    const open_job *job = replies->quietest;
    *slot = job ? owned_slot(job) : GM_NOBODY;
    return job ? job->handle : (gm_slice){NULL, 0};
}

void gm_replies_pass(gm_replies *replies)
{
    if (replies->quietest) move_to_end(replies, replies->quietest);
}

bool gm_replies_waits(gm_replies *replies, gm_slice handle, uint32_t slot)
{
    const open_job *job = find_job(replies, handle);
    return job && position_of(job, slot) < job->count;
}

void gm_replies_forget(gm_replies *replies, gm_slice handle, uint32_t slot)
{
    open_job *job = find_job(replies, handle);
    if (job && position_of(job, slot) < job->count) close_slot(replies, handle, position_of(job, slot));
}

GM_HOT bool gm_replies_place(gm_replies *replies, gm_reply *reply)
{
    gm_command command = reply->packet.command;
    reply->request = 0;
    switch (command) {
    case GM_WORK_STATUS:
    case GM_WORK_COMPLETE:
    case GM_WORK_FAIL:
    case GM_WORK_EXCEPTION:
    case GM_WORK_DATA:
    case GM_WORK_WARNING:
        reply->slot = deal(replies, &reply->packet, reply->parts[0]);
        return reply->slot != GM_NOBODY;
    default:
        reply->slot = GM_NOBODY;
    }
    if (GM_UNLIKELY(replies->expected_count == 0)) return true;
    gm_expected_reply head = *expected_at(replies, 0);
    if (GM_UNLIKELY(!answers(command, head.request))) return true;
    if (command == GM_JOB_CREATED) replies->handle_size = reply->parts[0].length;
    if (command == GM_JOB_CREATED && is_submit(head.request)) {
        open_slot(replies, reply->parts[0], head.conversation == replies->conversation ? head.slot : GM_NOBODY);
    }
    replies->expected_head = (replies->expected_head + 1) & (replies->expected_capacity - 1);
    replies->expected_count--;
    if (GM_UNLIKELY(head.conversation != replies->conversation)) return false;
    reply->slot = head.slot;
    reply->request = head.request;
    return true;
}
