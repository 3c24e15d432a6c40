/* IDX files: what is read, and that every way to be malformed is told apart and named. */
#include "data_testing.h"

#include <stdio.h>
#include <string.h>

#include "runtime/idx.h"

enum { ROWS = 3, HEIGHT = 4, WIDTH = 5, COUNT = ROWS * HEIGHT * WIDTH, HEADER = 16 };

static const uint32_t extents[] = {ROWS, HEIGHT, WIDTH, 0};

/* The bytes of a good file, for a test to damage. */
static size_t good_file(uint8_t to[HEADER + COUNT])
{
    uint8_t data[COUNT];
    for (int i = 0; i < COUNT; i++) {
        data[i] = (uint8_t)(i * 7);
    }
    return build_idx(to, extents, data, COUNT);
}

static void check_good(const char *path)
{
    dpr_idx_t idx;
    assert_ok(dpr_idx_read(path, 3, &idx));
    assert_int_equal(idx.dimensions, 3);
    assert_int_equal(idx.extent[0], ROWS);
    assert_int_equal(idx.extent[1], HEIGHT);
    assert_int_equal(idx.extent[2], WIDTH);
    assert_int_equal(idx.count, COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(idx.data[i], (uint8_t)(i * 7));
    }
    dpr_idx_free(&idx);
}

static void plain_and_gzip_files_read_the_same(void **state)
{
    uint8_t bytes[HEADER + COUNT];
    const size_t size = good_file(bytes);
    check_good(write_file(*state, "plain", bytes, size));
    check_good(write_gzip(*state, "compressed.gz", bytes, size));
}

static void a_missing_file_is_named(void **state)
{
    dpr_idx_t idx;
    assert_fails(dpr_idx_read(path_in(*state, "none"), 3, &idx), DPR_ERR_IO, "/none: No such file");
}

static void a_folder_is_not_read(void **state)
{
    dpr_idx_t idx;
    assert_fails(dpr_idx_read(*state, 3, &idx), DPR_ERR_IO, "not a regular file");
}

/* Every prefix of a good file is refused as truncated, plain or compressed after the cut. */
static void every_truncation_is_found(void **state)
{
    uint8_t bytes[HEADER + COUNT];
    const size_t size = good_file(bytes);
    dpr_idx_t idx;
    for (size_t cut = 0; cut < size; cut++) {
        assert_fails(dpr_idx_read(write_file(*state, "cut", bytes, cut), 3, &idx), DPR_ERR_DATA,
                     "/cut is truncated");
        assert_fails(dpr_idx_read(write_gzip(*state, "cut.gz", bytes, cut), 3, &idx), DPR_ERR_DATA,
                     "/cut.gz is truncated");
    }
}

/* Reads a file of this folder whole; returns its length. */
static size_t read_whole(const char *path, uint8_t *to, size_t room)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t size = fread(to, 1, room, file);
    assert_int_equal(fclose(file), 0);
    return size;
}

/* Every prefix of a compressed file is refused, wherever the cut falls in the stream and its
 * trailer. */
static void every_cut_through_a_gzip_stream_is_found(void **state)
{
    uint8_t bytes[HEADER + COUNT];
    uint8_t compressed[512];
    dpr_idx_t idx;
    const char *path = write_gzip(*state, "whole.gz", bytes, good_file(bytes));
    const size_t size = read_whole(path, compressed, sizeof compressed);
    for (size_t cut = 0; cut < size; cut++) {
        assert_fails(dpr_idx_read(write_file(*state, "cut.gz", compressed, cut), 3, &idx),
                     DPR_ERR_DATA, "/cut.gz is ");
    }
    check_good(write_file(*state, "cut.gz", compressed, size));
}

/* One flipped byte anywhere behind the gzip header does not pass for a good file. */
static void a_damaged_gzip_stream_is_found(void **state)
{
    enum { GZIP_HEADER = 10 };
    uint8_t bytes[HEADER + COUNT];
    uint8_t compressed[512];
    dpr_idx_t idx;
    const char *path = write_gzip(*state, "whole.gz", bytes, good_file(bytes));
    const size_t size = read_whole(path, compressed, sizeof compressed);
    for (size_t at = GZIP_HEADER; at < size; at++) {
        compressed[at] ^= 0x55;
        assert_fails(dpr_idx_read(write_file(*state, "bad.gz", compressed, size), 3, &idx),
                     DPR_ERR_DATA, "/bad.gz");
        compressed[at] ^= 0x55;
    }
}

static void trailing_bytes_are_found(void **state)
{
    uint8_t bytes[HEADER + COUNT + 1] = {0};
    const size_t size = good_file(bytes) + 1;
    dpr_idx_t idx;
    assert_fails(dpr_idx_read(write_file(*state, "long", bytes, size), 3, &idx), DPR_ERR_DATA,
                 "goes on after its 60 bytes");
    assert_fails(dpr_idx_read(write_gzip(*state, "long.gz", bytes, size), 3, &idx), DPR_ERR_DATA,
                 "goes on after its 60 bytes");
}

static void a_foreign_file_is_told_by_its_first_bytes(void **state)
{
    static const char png[] = "\x89PNG\r\n\x1a\n and more of it";
    dpr_idx_t idx;
    assert_fails(dpr_idx_read(write_file(*state, "a.png", png, sizeof png), 3, &idx), DPR_ERR_DATA,
                 "a.png is not an IDX file: it starts with 89 50 4e 47, expected 00 00 08 03");
}

static void other_element_types_are_named(void **state)
{
    static const struct {
        uint8_t type;
        const char *text;
    } cases[] = {{0x09, "signed bytes (IDX type 0x09)"},
                 {0x0b, "16-bit integers"},
                 {0x0c, "32-bit integers"},
                 {0x0d, "floats"},
                 {0x0e, "doubles"},
                 {0x00, "not an IDX file"},
                 {0x0a, "not an IDX file"},
                 {0xff, "not an IDX file"}};
    uint8_t bytes[HEADER + COUNT];
    const size_t size = good_file(bytes);
    dpr_idx_t idx;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes[2] = cases[i].type;
        assert_fails(dpr_idx_read(write_file(*state, "typed", bytes, size), 3, &idx), DPR_ERR_DATA,
                     cases[i].text);
    }
}

static void another_number_of_dimensions_is_refused(void **state)
{
    uint8_t bytes[HEADER + COUNT];
    const char *path = write_file(*state, "images", bytes, good_file(bytes));
    dpr_idx_t idx;
    assert_fails(dpr_idx_read(path, 1, &idx), DPR_ERR_DATA, "has 3 dimensions, expected 1");
    assert_fails(dpr_idx_read(path, 4, &idx), DPR_ERR_DATA, "has 3 dimensions, expected 4");
}

static void a_dimension_of_zero_is_refused(void **state)
{
    uint8_t bytes[HEADER + COUNT];
    const size_t size = good_file(bytes);
    dpr_idx_t idx;
    memset(bytes + 8, 0, 4);
    assert_fails(dpr_idx_read(write_file(*state, "empty", bytes, size), 3, &idx), DPR_ERR_DATA,
                 "dimension 1 is 0");
}

/* Gigabytes that the header promises are not allocated for a file of some bytes. */
static void absurd_dimensions_are_refused_before_memory_is_taken(void **state)
{
    uint8_t bytes[HEADER + COUNT];
    const size_t size = good_file(bytes);
    dpr_idx_t idx;
    memset(bytes + 4, 0x7f, 4);
    assert_fails(dpr_idx_read(write_file(*state, "large", bytes, size), 3, &idx), DPR_ERR_DATA,
                 "but the file is only 76 bytes long");
    assert_fails(dpr_idx_read(write_gzip(*state, "large.gz", bytes, size), 3, &idx), DPR_ERR_DATA,
                 "truncated or damaged");
    memset(bytes + 4, 0xff, 12);
    assert_fails(dpr_idx_read(write_file(*state, "huge", bytes, size), 3, &idx), DPR_ERR_DATA,
                 "dimensions multiply to more than");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_and_gzip_files_read_the_same),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(a_folder_is_not_read),
        cmocka_unit_test(every_truncation_is_found),
        cmocka_unit_test(every_cut_through_a_gzip_stream_is_found),
        cmocka_unit_test(a_damaged_gzip_stream_is_found),
        cmocka_unit_test(trailing_bytes_are_found),
        cmocka_unit_test(a_foreign_file_is_told_by_its_first_bytes),
        cmocka_unit_test(other_element_types_are_named),
        cmocka_unit_test(another_number_of_dimensions_is_refused),
        cmocka_unit_test(a_dimension_of_zero_is_refused),
        cmocka_unit_test(absurd_dimensions_are_refused_before_memory_is_taken),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
