#include "test.h"

#include <stdio.h>

int main(void)
{
    size_t total = 0;
    int failed = 0;
    failed += run_status_tests(&total);
    failed += run_buffer_tests(&total);
    failed += run_packet_tests(&total);
    failed += run_parser_tests(&total);
    fflush(stderr);
    printf("%zu passed, %d failed\n", total - (size_t)failed, failed);
    return failed ? 1 : 0;
}
