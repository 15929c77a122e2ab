/* The kernel command line: what one end writes, the other reads. */
#include "test.h"

#include "base/util.h"
#include "os/cmdline.h"

/* A copy in an allocation of exactly its size, so that a sanitizer sees a read past its end. */
static char *copy(const char *text)
{
    char *c = strdup(text);
    assert_non_null(c);
    return c;
}

static void assert_value(const char *line, const char *key, const char *expected)
{
    char out[256];
    char *exact = copy(line);
    int len = cmdline_get(exact, key, out, sizeof(out));
    if (len < 0)
        fail_msg("'%s' has no '%s': %d", line, key, len);
    assert_string_equal(out, expected);
    assert_int_equal(len, strlen(expected));
    free(exact);
}

static void assert_error(const char *line, const char *key, int error)
{
    char out[256];
    char *exact = copy(line);
    assert_int_equal(cmdline_get(exact, key, out, sizeof(out)), error);
    free(exact);
}

static void test_get(void **state)
{
    (void)state;
    const char *users = "console=ttyS0 vfs.fstab=[fs1:/data:9pfs:rw]";
    assert_value(users, "console", "ttyS0");
    assert_value(users, "vfs.fstab", "fs1:/data:9pfs:rw");
    assert_error(users, "fstab", -ENOENT);
    assert_error(users, "vfs", -ENOENT);
    assert_error("", "a", -ENOENT);
    assert_error("  \t\n ", "a", -ENOENT);
    assert_value(" a=1\tb=2\nc=3 ", "b", "2");
    assert_value("a=1 a=2", "a", "2");
    assert_value("a", "a", "");
    assert_value("a=", "a", "");
    assert_value("a= b", "a", "");
    assert_value("a=\"\"", "a", "");
    assert_value("a=[]", "a", "");
    assert_value("a==b=c", "a", "=b=c");
    assert_value("a=x\"y[z", "a", "x\"y[z");
    assert_value("f=[a:/a:9pfs:ro b:/b:9pfs:rw] g=1", "f", "a:/a:9pfs:ro b:/b:9pfs:rw");
    assert_value("e=\"ls; cat \\\"a b\\\"\" g=1", "e", "ls; cat \"a b\"");
    assert_value("e=\"\\\\ \\n \\\\\" g=1", "e", "\\ \\n \\");
    assert_value("a=\"key=inside b=2\" b=3", "b", "3");
    assert_value("virtio_mmio.device=512@0xfeb00000:5 virtio_mmio.device=512@0xfeb00200:6",
                 "virtio_mmio.device", "512@0xfeb00200:6");
}

static void test_malformed(void **state)
{
    (void)state;
    static const char *const bad[] = {"a=\"",         "a=\"x",    "a=\"x\\\"", "a=[",
                                      "a=[x y",       "a=\"x\"y", "a=[x]y",    "b a=\"x\\",
                                      "a=\"\\\\\\\"", "c=d a=\"x"};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        char *exact = copy(bad[i]);
        if (cmdline_check(exact) != -EINVAL)
            fail_msg("'%s' is taken", bad[i]);
        free(exact);
        assert_error(bad[i], "a", -EINVAL);
    }
    assert_value("c=d a=\"x", "c", "d"); /* what stands before is seen */
    assert_int_equal(cmdline_check("a=\"x\" b=[y]\t"), 0);
    assert_int_equal(cmdline_check(""), 0);
    assert_false(cmdline_has("aa b=a", "a"));
    assert_true(cmdline_has("b a", "a"));
    assert_true(cmdline_has("a=1", "a"));
}

static void test_room(void **state)
{
    (void)state;
    char out[4];
    assert_int_equal(cmdline_get("a=123", "a", out, sizeof(out)), 3);
    assert_int_equal(cmdline_get("a=1234", "a", out, sizeof(out)), -ENOSPC);
    assert_int_equal(cmdline_get("a=\"\\\"\\\"\\\"\"", "a", out, sizeof(out)), 3);
    assert_string_equal(out, "\"\"\"");
    assert_int_equal(cmdline_get("a=", "a", out, 1), 0);
    assert_int_equal(cmdline_get("a=", "a", out, 0), -ENOSPC);
}

static void test_each(void **state)
{
    (void)state;
    const char *at = "f=[a] x f=\"b c\" =v";
    struct cmdline_item item;
    char out[16];
    assert_int_equal(cmdline_next(&at, &item), 1);
    assert_int_equal(item.key_len, 1);
    assert_int_equal(cmdline_value(&item, out, sizeof(out)), 1);
    assert_int_equal(cmdline_next(&at, &item), 1);
    assert_null(item.value);
    assert_int_equal(cmdline_value(&item, out, sizeof(out)), 0);
    assert_int_equal(cmdline_next(&at, &item), 1);
    assert_int_equal(cmdline_value(&item, out, sizeof(out)), 3);
    assert_string_equal(out, "b c");
    assert_int_equal(cmdline_next(&at, &item), 1);
    assert_int_equal(item.key_len, 0);
    assert_int_equal(cmdline_next(&at, &item), 0);
    assert_int_equal(cmdline_next(&at, &item), 0);
}

/* The words of text must be the ones that follow, ended by NULL. */
static void assert_words(const char *text, ...)
{
    char *words[8];
    char *exact = copy(text);
    va_list args;
    int count = cmdline_words(exact, words, ARRAY_SIZE(words));
    int n = 0;
    va_start(args, text);
    for (const char *word; (word = va_arg(args, const char *)); n++) {
        if (n >= count)
            fail_msg("'%s' has %d words, and not '%s'", text, count, word);
        assert_string_equal(words[n], word);
    }
    va_end(args);
    assert_int_equal(count, n);
    assert_null(words[n]);
    free(exact);
}

static void assert_words_error(const char *text, unsigned max, int error)
{
    char *words[8];
    char *exact = copy(text);
    assert_int_equal(cmdline_words(exact, words, max), error);
    free(exact);
}

static void test_words(void **state)
{
    (void)state;
    assert_words("", NULL);
    assert_words("  \t ", NULL);
    assert_words("blkperf vda 50", "blkperf", "vda", "50", NULL);
    assert_words(" a  b ", "a", "b", NULL);
    assert_words("'a b' \"c d\"", "a b", "c d", NULL);
    assert_words("a'b c'd\"e f\"", "ab cde f", NULL);
    assert_words("'' \"\" x", "", "", "x", NULL);
    assert_words("'\"' \"'\" '\\'", "\"", "'", "\\", NULL);
    assert_words("\"\\\"\\\\\\n\" \\\" \\\\ a\\ b", "\"\\\\n", "\"", "\\", "a b", NULL);
    assert_words("'it'\\''s'", "it's", NULL);
    assert_words_error("'a", 8, -EINVAL);
    assert_words_error("\"a", 8, -EINVAL);
    assert_words_error("a\\", 8, -EINVAL);
    assert_words_error("\"a\\\"", 8, -EINVAL);
    assert_words_error("1 2 3", 3, -ENOSPC);
    assert_words_error("1 2", 3, 2);
    assert_words_error("", 1, 0);
    assert_words_error("", 0, -ENOSPC);
}

static void test_commands(void **state)
{
    (void)state;
    char text[] = "ls /; echo 'a;b' \"c;\\\";\" \\; d;;cat x\nlast";
    static const char *const expected[] = {"ls /", " echo 'a;b' \"c;\\\";\" \\; d", "", "cat x",
                                           "last"};
    char *rest = text;
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++) {
        char *command = cmdline_command(&rest);
        assert_non_null(command);
        assert_string_equal(command, expected[i]);
    }
    assert_null(cmdline_command(&rest));
    assert_null(cmdline_command(&rest));
    char open[] = "a 'b; c";
    rest = open;
    assert_string_equal(cmdline_command(&rest), "a 'b; c");
    assert_null(cmdline_command(&rest));
    char slash[] = "a\\";
    rest = slash;
    assert_string_equal(cmdline_command(&rest), "a\\");
    assert_null(cmdline_command(&rest));
}

static void test_add(void **state)
{
    (void)state;
    char line[64] = "";
    assert_int_equal(cmdline_add(line, sizeof(line), "console", "ttyS0"), 0);
    assert_int_equal(cmdline_add(line, sizeof(line), "interactive", NULL), 0);
    assert_int_equal(cmdline_add_list(line, sizeof(line), "f", "a:/b c:/d"), 0);
    assert_int_equal(cmdline_add_list(line, sizeof(line), "f", "a]"), -EINVAL);
    assert_int_equal(cmdline_add(line, sizeof(line), "e", "a \"b\""), 0);
    assert_string_equal(line, "console=ttyS0 interactive f=[a:/b c:/d] e=\"a \\\"b\\\"\"");
    assert_int_equal(cmdline_add(line, sizeof(line), "long", "01234567890123456789"), -ENOSPC);
    assert_string_equal(line, "console=ttyS0 interactive f=[a:/b c:/d] e=\"a \\\"b\\\"\"");
    char tight[6] = "";
    assert_int_equal(cmdline_add(tight, sizeof(tight), "a", "1234"), -ENOSPC);
    assert_int_equal(cmdline_add(tight, sizeof(tight), "a", "123"), 0);
    assert_string_equal(tight, "a=123");
    assert_int_equal(cmdline_add(tight, sizeof(tight), "", NULL), -ENOSPC);
}

static const char *random_text(uint64_t *seed, char *out, size_t size)
{
    static const char bytes[] = "ab '\"\\;=[]\t\n\xc3$";
    size_t len = random_below(seed, size);
    for (size_t i = 0; i < len; i++)
        out[i] = bytes[random_below(seed, sizeof(bytes) - 1)];
    out[len] = '\0';
    return out;
}

/* Any words, as one command, in one item, among others: they come back. */
static void test_round_trip(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int round = 0; round < test_rounds(20000); round++) {
        char command[512] = "", line[2048] = "", back[512], text[4][16];
        char *words[6];
        unsigned count = 1 + (unsigned)random_below(&seed, 4);
        for (unsigned i = 0; i < count; i++)
            assert_int_equal(cmdline_add_word(command, sizeof(command),
                                              random_text(&seed, text[i], sizeof(text[i]))),
                             0);
        char other[16];
        cmdline_add(line, sizeof(line), "x", random_text(&seed, other, sizeof(other)));
        assert_int_equal(cmdline_add(line, sizeof(line), "app", command), 0);
        cmdline_add(line, sizeof(line), "y", random_text(&seed, other, sizeof(other)));
        assert_int_equal(cmdline_check(line), 0);
        assert_int_equal(cmdline_get(line, "app", back, sizeof(back)), strlen(command));
        assert_string_equal(back, command);
        char *rest = back;
        assert_ptr_equal(cmdline_command(&rest), back); /* no ';' or newline is bare */
        assert_null(cmdline_command(&rest));
        assert_int_equal(cmdline_words(back, words, ARRAY_SIZE(words)), count);
        for (unsigned i = 0; i < count; i++)
            assert_string_equal(words[i], text[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),   cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_room),  cmocka_unit_test(test_each),
        cmocka_unit_test(test_words), cmocka_unit_test(test_commands),
        cmocka_unit_test(test_add),   cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests_name("cmdline", tests, NULL, NULL);
}
