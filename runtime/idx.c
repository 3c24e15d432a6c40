/* Reads IDX files through zlib, which takes plain files as they are. */
#include "runtime/idx.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/log.h"
#include "base/memory.h"

enum {
    MAGIC_BYTES = 4,
    DIMENSION_BYTES = 4,
    TYPE_UNSIGNED_BYTE = 0x08,
    READ_BUFFER_BYTES = 1 << 18,
    READ_CHUNK_BYTES = 1 << 30, /* gzread counts in an int */
    DEFLATE_MAX_RATIO = 1032,   /* what deflate can gain at most (zlib, "Technical Details") */
};

typedef struct source {
    const char *path;
    gzFile file;
    size_t file_bytes; /* on disk */
} source_t;

/* ---- Bytes ---- */

static dpr_status_t source_open(const char *path, source_t *source)
{
    struct stat info;
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return dpr_fail(DPR_ERR_IO, "cannot open %s: %s", path, strerror(errno));
    }
    if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(descriptor);
        return dpr_fail(DPR_ERR_IO, "cannot read %s: it is not a regular file", path);
    }
    *source = (source_t){.path = path, .file_bytes = (size_t)info.st_size};
    source->file = gzdopen(descriptor, "rb");
    if (source->file == NULL) {
        close(descriptor);
        return dpr_fail(DPR_ERR_MEMORY, "cannot read %s: no memory for zlib", path);
    }
    gzbuffer(source->file, READ_BUFFER_BYTES);
    return DPR_OK;
}

/* Reads up to `bytes`; *got is less only where the file ends, be it properly or within a gzip
 * stream. */
static dpr_status_t source_read(source_t *source, uint8_t *to, size_t bytes, size_t *got)
{
    size_t done = 0;
    while (done < bytes) {
        const size_t left = bytes - done;
        const unsigned chunk = (unsigned)(left < READ_CHUNK_BYTES ? left : READ_CHUNK_BYTES);
        const int count = gzread(source->file, to + done, chunk);
        if (count < 0) {
            int code;
            const char *text = gzerror(source->file, &code);
            if (code == Z_ERRNO) {
                return dpr_fail(DPR_ERR_IO, "cannot read %s: %s", source->path, strerror(errno));
            }
            return dpr_fail(DPR_ERR_DATA, "%s is damaged: after %zu bytes, %s; fetch it anew",
                            source->path, (size_t)gztell(source->file), text);
        }
        if (count == 0) {
            break;
        }
        done += (size_t)count;
    }
    *got = done;
    return DPR_OK;
}

/* ---- Header ---- */

static const char *type_name(int type)
{
    switch (type) {
    case 0x09:
        return "signed bytes";
    case 0x0b:
        return "16-bit integers";
    case 0x0c:
        return "32-bit integers";
    case 0x0d:
        return "floats";
    case 0x0e:
        return "doubles";
    default:
        return NULL;
    }
}

static dpr_status_t read_magic(source_t *source, int dimensions)
{
    uint8_t magic[MAGIC_BYTES];
    size_t got;
    DPR_TRY(source_read(source, magic, sizeof magic, &got));
    if (got < sizeof magic) {
        return dpr_fail(DPR_ERR_DATA,
                        "%s is truncated: %zu bytes, but an IDX file's header alone has %d",
                        source->path, got, MAGIC_BYTES + DIMENSION_BYTES * dimensions);
    }
    const bool is_idx = magic[0] == 0 && magic[1] == 0;
    if (is_idx && type_name(magic[2]) != NULL) {
        return dpr_fail(DPR_ERR_DATA,
                        "%s holds %s (IDX type 0x%02x), expected unsigned bytes "
                        "(0x08)",
                        source->path, type_name(magic[2]), magic[2]);
    }
    if (!is_idx || magic[2] != TYPE_UNSIGNED_BYTE) {
        return dpr_fail(DPR_ERR_DATA,
                        "%s is not an IDX file: it starts with %02x %02x %02x %02x, expected "
                        "00 00 08 %02x",
                        source->path, magic[0], magic[1], magic[2], magic[3], dimensions);
    }
    if (magic[3] != dimensions) {
        return dpr_fail(DPR_ERR_DATA,
                        "%s has %d dimensions, expected %d (images have 3, labels 1: are they "
                        "swapped?)",
                        source->path, magic[3], dimensions);
    }
    return DPR_OK;
}

static dpr_status_t read_extents(source_t *source, dpr_idx_t *idx)
{
    uint8_t bytes[DPR_IDX_MAX_DIMENSIONS * DIMENSION_BYTES];
    const size_t wanted = (size_t)idx->dimensions * DIMENSION_BYTES;
    size_t got;
    DPR_TRY(source_read(source, bytes, wanted, &got));
    if (got < wanted) {
        return dpr_fail(DPR_ERR_DATA,
                        "%s is truncated: it ends within its header, after %zu of %zu bytes",
                        source->path, MAGIC_BYTES + got, MAGIC_BYTES + wanted);
    }
    idx->count = 1;
    for (int d = 0; d < idx->dimensions; d++) {
        const uint8_t *b = &bytes[d * DIMENSION_BYTES];
        const size_t extent =
            (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | (size_t)b[3];
        if (extent == 0) {
            return dpr_fail(DPR_ERR_DATA, "%s is empty: its dimension %d is 0", source->path, d);
        }
        if (idx->count > SIZE_MAX / extent) {
            return dpr_fail(DPR_ERR_DATA,
                            "%s is damaged: its dimensions multiply to more than %zu bytes",
                            source->path, (size_t)SIZE_MAX);
        }
        idx->extent[d] = extent;
        idx->count *= extent;
    }
    return DPR_OK;
}

/* Whether a file of this size can hold what its header says: asked before memory is taken for it.
 */
static dpr_status_t check_plausible(const source_t *source, const dpr_idx_t *idx)
{
    const size_t ratio = gzdirect(source->file) ? 1 : DEFLATE_MAX_RATIO;
    if (idx->count / ratio > source->file_bytes) {
        return dpr_fail(DPR_ERR_DATA,
                        "%s is truncated or damaged: its header says %zu bytes of data, but the "
                        "file is only %zu bytes long",
                        source->path, idx->count, source->file_bytes);
    }
    return DPR_OK;
}

/* ---- The whole ---- */

static dpr_status_t read_data(source_t *source, dpr_idx_t *idx)
{
    size_t got;
    uint8_t beyond;
    DPR_TRY(dpr_calloc(idx->count, 1, &idx->data));
    DPR_TRY(source_read(source, idx->data, idx->count, &got));
    if (got < idx->count) {
        return dpr_fail(DPR_ERR_DATA, "%s is truncated: %zu of %zu bytes of data are there",
                        source->path, got, idx->count);
    }
    /* Reading on also makes zlib check the checksum at a gzip stream's end. */
    DPR_TRY(source_read(source, &beyond, 1, &got));
    if (got > 0) {
        return dpr_fail(DPR_ERR_DATA,
                        "%s goes on after its %zu bytes of data: its header or its end is damaged",
                        source->path, idx->count);
    }
    /* A gzip stream that ends early reads as the end of the file, with this mark. */
    int code;
    gzerror(source->file, &code);
    if (code == Z_BUF_ERROR) {
        return dpr_fail(DPR_ERR_DATA, "%s is truncated: its gzip stream has no end; fetch it anew",
                        source->path);
    }
    return DPR_OK;
}

static dpr_status_t read_all(source_t *source, dpr_idx_t *idx)
{
    DPR_TRY(read_magic(source, idx->dimensions));
    DPR_TRY(read_extents(source, idx));
    DPR_TRY(check_plausible(source, idx));
    return read_data(source, idx);
}

dpr_status_t dpr_idx_read(const char *path, int dimensions, dpr_idx_t *idx)
{
    assert(dimensions >= 1 && dimensions <= DPR_IDX_MAX_DIMENSIONS);
    source_t source;
    DPR_TRY(source_open(path, &source));
    dpr_idx_t read = {.dimensions = dimensions};
    const dpr_status_t status = read_all(&source, &read);
    gzclose(source.file);
    if (status != DPR_OK) {
        dpr_idx_free(&read);
        return status;
    }
    *idx = read;
    return DPR_OK;
}

void dpr_idx_free(dpr_idx_t *idx)
{
    free(idx->data);
    *idx = (dpr_idx_t){0};
}
