/*
 * Every call of CUDA and cuBLASLt that the cuda kernels make is failed once, on the stand-in: the
 * error comes back with the call's name, and nothing is left behind.
 */
#include "fixture.h"

#include <string.h>

#include "base/log.h"
#include "lt_standin.h"
#include "standin.h"

enum { ROWS = 8, IN = 16, OUT = 24, FLOATS = 4096 };

/* Everything once: the table's making, all its entries, its end. */
typedef struct sequence {
    dpr_device_t *device;
    dpr_stream_t *stream;
    float *memory; /* FLOATS */
    int32_t *labels;
} sequence_t;

static dpr_status_t run_products(dpr_kernels_t *k, const sequence_t *s)
{
    float *x = s->memory; /* [ROWS][IN] */
    float *w = x + ROWS * IN;
    float *b = w + IN * OUT;
    float *y = b + OUT;
    float *other = y + ROWS * OUT;
    float *dx = other + ROWS * OUT;
    float *db = dx + ROWS * IN;
    float *dw = db + OUT;
    for (int e = DPR_EPILOGUE_NONE; e <= DPR_EPILOGUE_RESIDUAL; e++) {
        DPR_TRY(k->linear_forward(k, s->stream, ROWS, IN, OUT, x, w, b, (dpr_epilogue_t)e,
                                  e == DPR_EPILOGUE_NONE ? NULL : other, y));
    }
    DPR_TRY(k->linear_backward_input(k, s->stream, ROWS, IN, OUT, y, w, NULL, dx));
    DPR_TRY(k->linear_backward_input(k, s->stream, ROWS, IN, OUT, y, w, x, dx));
    return k->linear_backward_weight(k, s->stream, ROWS, IN, OUT, x, y, dw, db);
}

static dpr_status_t run_others(dpr_kernels_t *k, const sequence_t *s)
{
    float *x = s->memory; /* [8][16] */
    float *y = x + 128;
    float *stats = y + 128;
    float *gamma = stats + 16;
    float *sums = gamma + 16;
    double *result = (double *)(void *)(sums + 16);
    const dpr_adamw_t settings = {.correction1 = 1.0F, .correction2 = 1.0F};
    DPR_TRY(k->convert(k, s->stream, 128, x, y));
    DPR_TRY(k->layernorm_forward(k, s->stream, 8, 16, x, gamma, gamma, y, stats, stats + 8));
    DPR_TRY(k->layernorm_backward_input(k, s->stream, 8, 16, y, x, gamma, stats, stats + 8, y, y));
    DPR_TRY(k->layernorm_backward_weight(k, s->stream, 8, 16, y, x, stats, stats + 8, sums, gamma));
    DPR_TRY(k->layernorm_backward_weight(k, s->stream, 128, 1, y, x, x, x, sums, gamma));
    DPR_TRY(k->softmax_cross_entropy(k, s->stream, 8, 16, x, s->labels, 1.0F, y, result));
    DPR_TRY(k->sum_squares(k, s->stream, 128, x, result));
    DPR_TRY(k->clip_factor(k, s->stream, 1, result, 1.0F, stats));
    DPR_TRY(k->adamw(k, s->stream, 16, 8, &settings, stats, x, sums, gamma, y, NULL));
    return k->sgd(k, s->stream, 16, 8, 0.1F, 0.9F, 0.1F, stats, x, sums, y, y + 16);
}

static dpr_status_t run_sequence(const sequence_t *s)
{
    dpr_kernels_t *kernels;
    DPR_TRY(dpr_cuda_kernels_create(s->device, DPR_DTYPE_FP32, &kernels));
    dpr_status_t status = kernels->prepare(kernels, s->stream);
    if (status == DPR_OK) {
        status = kernels->leave(kernels, 8);
    }
    if (status == DPR_OK) {
        status = run_products(kernels, s);
    }
    if (status == DPR_OK) {
        status = run_others(kernels, s);
    }
    /* What was enqueued before a failure still runs. */
    const dpr_status_t drained = dpr_stream_synchronize(s->stream);
    dpr_kernels_destroy(kernels);
    return status != DPR_OK ? status : drained;
}

/* Fails the n-th call of `function`, for every n that there is. Returns how many. */
static unsigned long fail_each_call(const sequence_t *s, const char *function, int alive)
{
    char message[1024];
    char leaks[1024];
    unsigned long n = 0;
    for (bool failed = true; failed;) {
        dpr_log_capture_t capture;
        standin_inject(&(standin_failure_t){.function = function, .call = ++n});
        dpr_log_capture_begin(&capture, message, sizeof message);
        const dpr_status_t status = run_sequence(s);
        dpr_log_capture_end(&capture);
        failed = standin_failed();
        const bool releases =
            strstr(function, "Destroy") != NULL || strstr(function, "Free") != NULL;
        if (failed && !releases && (status == DPR_OK || strstr(message, function) == NULL)) {
            fail_msg("call %lu of %s failed, but the status is %s, and it was said: %s", n,
                     function, dpr_status_name(status), message);
        }
        if (!failed && status != DPR_OK) {
            fail_msg("nothing failed, but the status is %s: %s", dpr_status_name(status), message);
        }
        if (standin_leaks(leaks, sizeof leaks) != alive) {
            fail_msg("after call %lu of %s failed: %s", n, function, leaks);
        }
    }
    standin_inject(NULL);
    return n - 1;
}

static bool is_of_the_kernels(const char *function)
{
    return strncmp(function, "cublasLt", 8) == 0 || strcmp(function, "cudaLaunchKernel") == 0 ||
           strcmp(function, "cudaDeviceGetAttribute") == 0 || strcmp(function, "cudaMalloc") == 0;
}

static void open_sequence(sequence_t *s)
{
    void *memory;
    void *labels;
    /* Of a GPU whose products take a small workspace, which is quickly poisoned. */
    standin_reset(&(standin_options_t){.compute_major = 8});
    REQUIRE(dpr_cuda_device_create(0, DPR_CLOCK_WALL, &s->device));
    REQUIRE(dpr_stream_create(s->device, "test", 0, &s->stream));
    REQUIRE(dpr_device_alloc(s->device, DPR_MEMORY_DEVICE, FLOATS * sizeof(float), &memory));
    REQUIRE(dpr_device_alloc(s->device, DPR_MEMORY_DEVICE, ROWS * sizeof(int32_t), &labels));
    REQUIRE(dpr_stream_fill(s->stream, memory, 0, FLOATS * sizeof(float)));
    REQUIRE(dpr_stream_fill(s->stream, labels, 0, ROWS * sizeof(int32_t)));
    s->memory = memory;
    s->labels = labels;
}

static void close_sequence(sequence_t *s)
{
    dpr_device_free(s->device, DPR_MEMORY_DEVICE, s->memory);
    dpr_device_free(s->device, DPR_MEMORY_DEVICE, s->labels);
    dpr_stream_destroy(s->stream);
    dpr_device_destroy(s->device);
    assert_int_equal(standin_misuses(), 0);
    assert_int_equal(standin_leaks(NULL, 0), 0);
    standin_reset(NULL);
}

static void every_failing_call_is_reported_and_leaks_nothing(void **state)
{
    (void)state;
    const char *names[256];
    sequence_t s;
    open_sequence(&s);
    for (int plain = 0; plain < 2; plain++) {
        standin_lt_allow(plain == 0, true);
        REQUIRE(run_sequence(&s));
        const int alive = standin_leaks(NULL, 0);
        const int count = standin_functions(names, 256);
        unsigned long calls = 0;
        for (int i = 0; i < count; i++) {
            calls += is_of_the_kernels(names[i]) ? fail_each_call(&s, names[i], alive) : 0;
        }
        assert_true(calls > 100);
    }
    standin_lt_allow(true, true);
    close_sequence(&s);
}

static void a_kernel_that_fails_later_shows_when_the_stream_is_waited_for(void **state)
{
    (void)state;
    dpr_device_t *device;
    dpr_kernels_t *kernels;
    dpr_stream_t *stream;
    void *memory;
    char message[2048];
    dpr_log_capture_t capture;
    standin_reset(NULL);
    REQUIRE(dpr_cuda_device_create(0, DPR_CLOCK_WALL, &device));
    REQUIRE(dpr_cuda_kernels_create(device, DPR_DTYPE_FP32, &kernels));
    REQUIRE(dpr_stream_create(device, "test", 0, &stream));
    REQUIRE(kernels->prepare(kernels, stream));
    REQUIRE(dpr_device_alloc(device, DPR_MEMORY_DEVICE, 512, &memory));
    standin_inject(&(standin_failure_t){.function = "async:cudaLaunchKernel", .call = 1});
    dpr_log_capture_begin(&capture, message, sizeof message);
    REQUIRE(kernels->convert(kernels, stream, 64, memory, (float *)memory + 64));
    assert_int_not_equal(dpr_stream_synchronize(stream), DPR_OK);
    assert_int_equal(kernels->convert(kernels, stream, 64, memory, (float *)memory + 64),
                     DPR_ERR_DEVICE);
    dpr_device_free(device, DPR_MEMORY_DEVICE, memory);
    dpr_stream_destroy(stream);
    dpr_kernels_destroy(kernels);
    dpr_device_destroy(device);
    dpr_log_capture_end(&capture);
    standin_reset(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failing_call_is_reported_and_leaks_nothing),
        cmocka_unit_test(a_kernel_that_fails_later_shows_when_the_stream_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
