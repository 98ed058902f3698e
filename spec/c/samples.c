#include "test.h"

#define P(literal)                                      \
    {                                                   \
        (const uint8_t *)(literal), sizeof(literal) - 1 \
    }
#define DATA "any\0bytes\xff\n"

static const wire_sample samples[] = {
    {1, "can_do", GM_REQ, 1, false, {P("reverse")}, P("reverse")},
    {2, "cant_do", GM_REQ, 1, false, {P("reverse")}, P("reverse")},
    {3, "reset_abilities", GM_REQ, 0, false, {P("")}, P("")},
    {4, "pre_sleep", GM_REQ, 0, false, {P("")}, P("")},
    {6, "noop", GM_RES, 0, false, {P("")}, P("")},
    {7, "submit_job", GM_REQ, 2, true, {P("reverse"), P("u1"), P(DATA)}, P("reverse\0u1\0" DATA)},
    {8, "job_created", GM_RES, 1, false, {P("H:host:1")}, P("H:host:1")},
    {9, "grab_job", GM_REQ, 0, false, {P("")}, P("")},
    {10, "no_job", GM_RES, 0, false, {P("")}, P("")},
    {11, "job_assign", GM_RES, 2, true, {P("H:host:1"), P("reverse"), P(DATA)}, P("H:host:1\0reverse\0" DATA)},
    {12,
     "work_status",
     GM_BOTH,
     3,
     false,
     {P("H:host:1"), P("1"), P("3")},
     P("H:host:1\0"
       "1\0"
       "3")},
    {13, "work_complete", GM_BOTH, 1, true, {P("H:host:1"), P(DATA)}, P("H:host:1\0" DATA)},
    {14, "work_fail", GM_BOTH, 1, false, {P("H:host:1")}, P("H:host:1")},
    {15, "get_status", GM_REQ, 1, false, {P("H:host:1")}, P("H:host:1")},
    {16, "echo_req", GM_REQ, 0, true, {P(DATA)}, P(DATA)},
    {17, "echo_res", GM_RES, 0, true, {P(DATA)}, P(DATA)},
    {18, "submit_job_bg", GM_REQ, 2, true, {P("reverse"), P("u1"), P(DATA)}, P("reverse\0u1\0" DATA)},
    {19, "error", GM_RES, 2, false, {P("QUEUE_ERROR"), P("Job queue is full")}, P("QUEUE_ERROR\0Job queue is full")},
    {20,
     "status_res",
     GM_RES,
     5,
     false,
     {P("H:host:1"), P("1"), P("0"), P("2"), P("4")},
     P("H:host:1\0"
       "1\0"
       "0\0"
       "2\0"
       "4")},
    {21, "submit_job_high", GM_REQ, 2, true, {P("reverse"), P("u1"), P(DATA)}, P("reverse\0u1\0" DATA)},
    {22, "set_client_id", GM_REQ, 1, false, {P("worker-1")}, P("worker-1")},
    {23,
     "can_do_timeout",
     GM_REQ,
     2,
     false,
     {P("reverse"), P("30000")},
     P("reverse\0"
       "30000")},
    {24, "all_yours", GM_REQ, 0, false, {P("")}, P("")},
    {25, "work_exception", GM_BOTH, 1, true, {P("H:host:1"), P(DATA)}, P("H:host:1\0" DATA)},
    {26, "option_req", GM_REQ, 1, false, {P("exceptions")}, P("exceptions")},
    {27, "option_res", GM_RES, 1, false, {P("exceptions")}, P("exceptions")},
    {28, "work_data", GM_BOTH, 1, true, {P("H:host:1"), P(DATA)}, P("H:host:1\0" DATA)},
    {29, "work_warning", GM_BOTH, 1, true, {P("H:host:1"), P(DATA)}, P("H:host:1\0" DATA)},
    {30, "grab_job_uniq", GM_REQ, 0, false, {P("")}, P("")},
    {31,
     "job_assign_uniq",
     GM_RES,
     3,
     true,
     {P("H:host:1"), P("reverse"), P("u1"), P(DATA)},
     P("H:host:1\0reverse\0u1\0" DATA)},
    {32, "submit_job_high_bg", GM_REQ, 2, true, {P("reverse"), P("u1"), P(DATA)}, P("reverse\0u1\0" DATA)},
    {33, "submit_job_low", GM_REQ, 2, true, {P("reverse"), P("u1"), P(DATA)}, P("reverse\0u1\0" DATA)},
    {34, "submit_job_low_bg", GM_REQ, 2, true, {P("reverse"), P("u1"), P(DATA)}, P("reverse\0u1\0" DATA)},
    {35,
     "submit_job_sched",
     GM_REQ,
     7,
     true,
     {P("reverse"), P("u1"), P("0"), P("12"), P("24"), P("12"), P("4"), P(DATA)},
     P("reverse\0u1\0"
       "0\0"
       "12\0"
       "24\0"
       "12\0"
       "4\0" DATA)},
    {36,
     "submit_job_epoch",
     GM_REQ,
     3,
     true,
     {P("reverse"), P("u1"), P("1800000000"), P(DATA)},
     P("reverse\0u1\0"
       "1800000000\0" DATA)},
    {37,
     "submit_reduce_job",
     GM_REQ,
     4,
     true,
     {P("reverse"), P("u1"), P("join"), P(""), P(DATA)},
     P("reverse\0u1\0join\0\0" DATA)},
    {38,
     "submit_reduce_job_background",
     GM_REQ,
     4,
     true,
     {P("reverse"), P("u1"), P("join"), P(""), P(DATA)},
     P("reverse\0u1\0join\0\0" DATA)},
    {39, "grab_job_all", GM_REQ, 0, false, {P("")}, P("")},
    {40,
     "job_assign_all",
     GM_RES,
     4,
     true,
     {P("H:host:1"), P("reverse"), P("u1"), P("join"), P(DATA)},
     P("H:host:1\0reverse\0u1\0join\0" DATA)},
    {41, "get_status_unique", GM_REQ, 1, false, {P("u1")}, P("u1")},
    {42,
     "status_res_unique",
     GM_RES,
     6,
     false,
     {P("u1"), P("1"), P("0"), P("2"), P("4"), P("1")},
     P("u1\0"
       "1\0"
       "0\0"
       "2\0"
       "4\0"
       "1")},
};

const size_t samples_count = sizeof(samples) / sizeof(*samples);

const wire_sample *sample_of(uint32_t number)
{
    for (size_t i = 0; i < samples_count; i++) {
        if (samples[i].number == number) return &samples[i];
    }
    fail_msg("there is no sample of packet type %u", number);
    return NULL;
}
