/* The kernels' test fixture: device, arrays with guards, comparison. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "fixture_backend.h"

enum { GUARD_BYTES = 256, GUARD_BYTE = 0xa5, EXIT_SKIPPED = 77 };

typedef struct scratch {
    struct scratch *next;
    double values[];
} scratch_t;

typedef struct device_name {
    const char *name;
    bool cuda;
    bool chaos;
    bool plain;
    dpr_dtype_t dtype;
} device_name_t;

static const device_name_t device_names[] = {
    {.name = "host"},
    {.name = "host-chaos", .chaos = true},
    {.name = "cuda", .cuda = true},
    {.name = "cuda-tf32", .cuda = true, .dtype = DPR_DTYPE_TF32},
    {.name = "cuda-bf16", .cuda = true, .dtype = DPR_DTYPE_BF16},
    {.name = "cuda-plain", .cuda = true, .plain = true},
    {.name = "cuda-tf32-plain", .cuda = true, .plain = true, .dtype = DPR_DTYPE_TF32},
    {.name = "cuda-bf16-plain", .cuda = true, .plain = true, .dtype = DPR_DTYPE_BF16},
};

enum { DEVICE_NAMES = sizeof device_names / sizeof device_names[0] };

static const device_name_t *chosen = &device_names[0];

static dpr_status_t open_device(const device_name_t *name, dpr_device_t **device,
                                dpr_kernels_t **kernels)
{
    if (name->cuda) {
        if (!fixture_backend_begin(name->plain)) {
            return DPR_ERR_UNSUPPORTED;
        }
        DPR_TRY(dpr_cuda_device_create(0, DPR_CLOCK_WALL, device));
        return dpr_cuda_kernels_create(*device, name->dtype, kernels);
    }
    const dpr_host_device_options_t options = {.clock = DPR_CLOCK_WALL,
                                               .chaos_seed = name->chaos ? 1 : 0};
    DPR_TRY(dpr_host_device_create(&options, device));
    return dpr_host_kernels_create(kernels);
}

static void log_message(void *user, dpr_log_level_t level, const char *message)
{
    (void)user;
    (void)level;
    fprintf(stderr, "%s\n", message);
}

static bool choose_device(const char *name)
{
    for (int i = 0; i < DEVICE_NAMES; i++) {
        if (strcmp(device_names[i].name, name) == 0) {
            chosen = &device_names[i];
            return true;
        }
    }
    return false;
}

int fixture_select(int argc, char **argv)
{
    if (argc > 1 && !choose_device(argv[1])) {
        fprintf(stderr, "usage: %s [host|host-chaos|cuda[-tf32|-bf16][-plain]]\n", argv[0]);
        return EXIT_FAILURE;
    }
    dpr_log_set_sink(log_message, NULL);
    dpr_device_t *device = NULL;
    dpr_kernels_t *kernels = NULL;
    const dpr_status_t status = open_device(chosen, &device, &kernels);
    dpr_kernels_destroy(kernels);
    dpr_device_destroy(device);
    if (status == DPR_ERR_UNSUPPORTED) {
        fprintf(stderr, "skipped: no %s device here\n", chosen->name);
        return EXIT_SKIPPED;
    }
    return status == DPR_OK ? 0 : EXIT_FAILURE;
}

int fixture_setup(void **state)
{
    fixture_t *fixture = calloc(1, sizeof *fixture);
    if (fixture == NULL || open_device(chosen, &fixture->device, &fixture->kernels) != DPR_OK ||
        dpr_stream_create(fixture->device, "test", 0, &fixture->stream) != DPR_OK ||
        fixture->kernels->prepare(fixture->kernels, fixture->stream) != DPR_OK) {
        return -1;
    }
    *state = fixture;
    return 0;
}

int fixture_teardown(void **state)
{
    fixture_t *fixture = *state;
    fixture_release(fixture);
    dpr_stream_destroy(fixture->stream);
    dpr_kernels_destroy(fixture->kernels);
    dpr_device_destroy(fixture->device);
    free(fixture);
    if (chosen->cuda) {
        fixture_backend_end();
    }
    return 0;
}

static array_t *make_array(fixture_t *fixture, size_t bytes, size_t misalign)
{
    array_t *array = calloc(1, sizeof *array);
    assert_non_null(array);
    const size_t block = GUARD_BYTES + misalign + bytes + GUARD_BYTES;
    REQUIRE(dpr_device_alloc(fixture->device, DPR_MEMORY_DEVICE, block, &array->device_block));
    REQUIRE(dpr_device_alloc(fixture->device, DPR_MEMORY_PINNED, block, &array->host_block));
    array->offset = GUARD_BYTES + misalign;
    array->device = (char *)array->device_block + array->offset;
    array->host = (char *)array->host_block + array->offset;
    array->bytes = bytes;
    array->next = fixture->arrays;
    fixture->arrays = array;
    memset(array->host_block, GUARD_BYTE, block);
    memset(array->host, 0, bytes);
    REQUIRE(dpr_stream_copy(fixture->stream, array->device_block, array->host_block, block));
    REQUIRE(dpr_stream_synchronize(fixture->stream));
    return array;
}

array_t *fixture_floats(fixture_t *fixture, size_t count)
{
    return make_array(fixture, count * sizeof(float), fixture->misalign_bytes);
}

array_t *fixture_elements(fixture_t *fixture, size_t count)
{
    if (fixture->kernels->dtype != DPR_DTYPE_BF16) {
        return fixture_floats(fixture, count);
    }
    array_t *array = make_array(fixture, count * sizeof(uint16_t), fixture->misalign_bytes / 2);
    array->bf16 = true;
    return array;
}

array_t *fixture_doubles(fixture_t *fixture, size_t count)
{
    return make_array(fixture, count * sizeof(double), 0);
}

array_t *fixture_ints(fixture_t *fixture, size_t count)
{
    return make_array(fixture, count * sizeof(int32_t), fixture->misalign_bytes);
}

array_t *fixture_bytes(fixture_t *fixture, size_t bytes)
{
    return make_array(fixture, bytes, 0);
}

void fixture_upload(fixture_t *fixture, array_t *array)
{
    REQUIRE(dpr_stream_copy(fixture->stream, array->device, array->host, array->bytes));
    REQUIRE(dpr_stream_synchronize(fixture->stream));
}

static void expect_guard(const array_t *array, size_t from, size_t to)
{
    const unsigned char *block = array->host_block;
    for (size_t i = from; i < to; i++) {
        if (block[i] != GUARD_BYTE) {
            fail_msg("a kernel wrote %td bytes from the start of an array of %zu bytes",
                     (ptrdiff_t)i - (ptrdiff_t)array->offset, array->bytes);
        }
    }
}

void fixture_download(fixture_t *fixture, array_t *array)
{
    const size_t block = array->offset + array->bytes + GUARD_BYTES;
    REQUIRE(dpr_stream_copy(fixture->stream, array->host_block, array->device_block, block));
    REQUIRE(dpr_stream_synchronize(fixture->stream));
    expect_guard(array, 0, array->offset);
    expect_guard(array, array->offset + array->bytes, block);
}

void fixture_release(fixture_t *fixture)
{
    for (array_t *array = fixture->arrays; array != NULL; array = array->next) {
        fixture_download(fixture, array);
    }
    while (fixture->arrays != NULL) {
        array_t *array = fixture->arrays;
        fixture->arrays = array->next;
        dpr_device_free(fixture->device, DPR_MEMORY_DEVICE, array->device_block);
        dpr_device_free(fixture->device, DPR_MEMORY_PINNED, array->host_block);
        free(array);
    }
    while (fixture->scratch != NULL) {
        scratch_t *scratch = fixture->scratch;
        fixture->scratch = scratch->next;
        free(scratch);
    }
}

double *fixture_scratch(fixture_t *fixture, size_t count)
{
    scratch_t *scratch = calloc(1, sizeof *scratch + count * sizeof(double));
    assert_non_null(scratch);
    scratch->next = fixture->scratch;
    fixture->scratch = scratch;
    return scratch->values;
}

size_t array_count(const array_t *array)
{
    return array->bytes / (array->bf16 ? sizeof(uint16_t) : sizeof(float));
}

float host_get(const array_t *array, size_t i)
{
    if (!array->bf16) {
        return ((const float *)array->host)[i];
    }
    const uint32_t bits = (uint32_t)((const uint16_t *)array->host)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void host_set(array_t *array, size_t i, float value)
{
    if (!array->bf16) {
        ((float *)array->host)[i] = value;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
    ((uint16_t *)array->host)[i] = (uint16_t)((isnan(value) ? bits | 0x400000 : rounded) >> 16);
}

static array_t *randomize(fixture_t *fixture, array_t *array, uint64_t stream, double range)
{
    for (size_t i = 0; i < array_count(array); i++) {
        host_set(array, i, (float)(range * (2.0 * dpr_random_uniform(7, stream, i) - 1.0)));
    }
    fixture_upload(fixture, array);
    return array;
}

array_t *fixture_random(fixture_t *fixture, size_t count, uint64_t stream, double range)
{
    return randomize(fixture, fixture_floats(fixture, count), stream, range);
}

array_t *fixture_random_elements(fixture_t *fixture, size_t count, uint64_t stream, double range)
{
    return randomize(fixture, fixture_elements(fixture, count), stream, range);
}

double fixture_rounding(const fixture_t *fixture)
{
    return fixture->kernels->dtype == DPR_DTYPE_BF16 ? 0x1p-8 : 0x1p-24;
}

double fixture_terms_error(const fixture_t *fixture, size_t n)
{
    /* Each factor is off by up to 2^-10, whether rounded or cut, and signs are random. */
    return fixture->kernels->dtype == DPR_DTYPE_TF32 ? 0x1p-9 * sqrt((double)n) : 0.0;
}

/* To 10 bits of mantissa in tf32; 7 in bf16. */
float fixture_exact(const fixture_t *fixture, float value)
{
    const int drop = fixture->kernels->dtype == DPR_DTYPE_FP32   ? 0
                     : fixture->kernels->dtype == DPR_DTYPE_TF32 ? 13
                                                                 : 16;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits &= ~((1U << drop) - 1U);
    memcpy(&value, &bits, sizeof value);
    return value;
}

double *fixture_widen(fixture_t *fixture, const array_t *array)
{
    const size_t count = array_count(array);
    double *to = fixture_scratch(fixture, count);
    for (size_t i = 0; i < count; i++) {
        to[i] = (double)host_get(array, i);
    }
    return to;
}

void expect_close(fixture_t *fixture, const char *what, array_t *got, const double *want,
                  double relative, double absolute)
{
    fixture_download(fixture, got);
    const double allowed = relative + (got->bf16 ? fixture_rounding(fixture) : 0.0);
    for (size_t i = 0; i < array_count(got); i++) {
        const double value = (double)host_get(got, i);
        if (isnan(value) && isnan(want[i])) {
            continue;
        }
        const double error = fabs(value - want[i]);
        /* Written so that a NaN on one side fails. */
        if (!(error <= absolute + allowed * fabs(want[i]))) {
            fail_msg("%s[%zu] is %.9g, should be %.9g (off by %.3g)", what, i, value, want[i],
                     error);
        }
    }
}
