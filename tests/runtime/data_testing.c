/* Scratch folders and files for the tests of data. */
#include "data_testing.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

int make_folder(void **state)
{
    const char *base = getenv("TMPDIR");
    char path[512];
    snprintf(path, sizeof path, "%s/dpr-data-XXXXXX", base != NULL ? base : "/tmp");
    *state = mkdtemp(path) != NULL ? strdup(path) : NULL;
    return *state != NULL ? 0 : -1;
}

int remove_folder(void **state)
{
    DIR *folder = opendir(*state);
    const struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        (void)unlink(path_in(*state, entry->d_name));
    }
    if (folder != NULL) {
        closedir(folder);
    }
    const int result = rmdir(*state);
    free(*state);
    return result;
}

const char *path_in(const char *folder, const char *name)
{
    static char paths[4][1024];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

const char *write_file(const char *folder, const char *name, const void *bytes, size_t count)
{
    const char *path = path_in(folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
    return path;
}

const char *write_gzip(const char *folder, const char *name, const void *bytes, size_t count)
{
    const char *path = path_in(folder, name);
    gzFile file = gzopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes, (unsigned)count), (int)count);
    assert_int_equal(gzclose(file), Z_OK);
    return path;
}

size_t build_idx(uint8_t *to, const uint32_t *extents, const uint8_t *data, size_t count)
{
    size_t used = 4;
    uint8_t dimensions = 0;
    for (; extents[dimensions] != 0; dimensions++) {
        for (int shift = 24; shift >= 0; shift -= 8) {
            to[used++] = (uint8_t)(extents[dimensions] >> shift);
        }
    }
    memcpy(to, (uint8_t[]){0, 0, 0x08, dimensions}, 4);
    memcpy(to + used, data, count);
    return used + count;
}

void assert_says(const char *message, const char *text)
{
    if (strstr(message, text) == NULL) {
        fail_msg("expected a message with '%s', got: '%s'", text, message);
    }
}
