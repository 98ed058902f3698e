#include "test.h"

static void each_status_has_its_text(void **state)
{
    (void)state;
    static const struct {
        gm_status status;
        const char *text;
    } expected[] = {
        {GM_OK, "success"},
        {GM_AGAIN, "more bytes are needed"},
        {GM_NO_MEMORY, "out of memory"},
        {GM_INVALID_MAGIC, "invalid magic"},
        {GM_INVALID_TYPE, "invalid packet type"},
        {GM_WRONG_DIRECTION, "packet type not expected in this direction"},
        {GM_TOO_LARGE, "packet larger than the limit"},
        {GM_MISSING_ARGUMENT, "packet with too few arguments"},
        {GM_NUL_IN_ARGUMENT, "NUL byte in an argument"},
        {GM_ARGUMENTS_TOO_LONG, "arguments longer than the limit"},
        {GM_ARGUMENT_COUNT, "wrong number of arguments"},
    };
    size_t count = sizeof(expected) / sizeof(*expected);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(expected[i].status, i);
        assert_string_equal(gm_status_text(expected[i].status), expected[i].text);
    }
    assert_string_equal(gm_status_text((gm_status)count), "unknown status");
}

static void other_numbers_have_a_text_too(void **state)
{
    (void)state;
    assert_string_equal(gm_status_text((gm_status)1000), "unknown status");
    assert_string_equal(gm_status_text((gm_status)-1), "unknown status");
}

int run_status_tests(size_t *total)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_status_has_its_text),
        cmocka_unit_test(other_numbers_have_a_text_too),
    };
    *total += sizeof(tests) / sizeof(*tests);
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
