/* The stand-in's memory: poison, guards, limits, and what copies accept. */
#include "standin_testing.h"

enum { BYTES = 1000, SEEDS = 40 };

static bool is_filled(const unsigned char *memory, size_t bytes, unsigned char value)
{
    for (size_t i = 0; i < bytes; i++) {
        if (memory[i] != value) {
            return false;
        }
    }
    return true;
}

static void fresh_memory_is_poison(void **state)
{
    (void)state;
    fresh(1);
    float *device = device_new(64 * sizeof(*device));
    double *pinned = pinned_new(64 * sizeof(*pinned));
    assert_int_equal((uintptr_t)device % 256, 0);
    for (int i = 0; i < 64; i++) {
        assert_true(device[i] != device[i]);
        assert_true(pinned[i] != pinned[i]);
    }
    OK(cudaFree(device));
    OK(cudaFreeHost(pinned));
    OK(cudaFree(NULL));
    OK(cudaFreeHost(NULL));
    assert_clean();
}

static void memory_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    size_t free_bytes;
    size_t total;
    void *memory;
    void *more;
    standin_reset(&(standin_options_t){.memory_bytes = 1 << 20, .quiet = true});
    OK(cudaMalloc(&memory, 1 << 19));
    OK(cudaMemGetInfo(&free_bytes, &total));
    assert_int_equal(total, 1 << 20);
    assert_int_equal(free_bytes, 1 << 19);
    assert_int_equal(cudaMalloc(&more, (1 << 19) + 1), cudaErrorMemoryAllocation);
    assert_int_equal(cudaMalloc(&more, SIZE_MAX), cudaErrorMemoryAllocation);
    OK(cudaSetDevice(1)); /* each device has its own */
    OK(cudaMalloc(&more, 1 << 20));
    OK(cudaFree(more));
    OK(cudaSetDevice(0));
    OK(cudaFree(memory));
    assert_clean();
}

static void copies_and_fills_do_what_they_say(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        fresh(seed);
        cudaStream_t stream = stream_new();
        unsigned char *device = device_new(BYTES);
        unsigned char *pinned = pinned_new(BYTES);
        unsigned char pageable[BYTES];
        unsigned char back[BYTES];
        for (int i = 0; i < BYTES; i++) {
            pageable[i] = (unsigned char)(i * 7);
        }
        OK(cudaMemcpyAsync(device, pageable, BYTES, cudaMemcpyHostToDevice, stream));
        OK(cudaMemcpyAsync(pinned, device, BYTES, cudaMemcpyDeviceToHost, stream));
        OK(cudaMemsetAsync(device, 3, BYTES, stream));
        OK(cudaMemcpyAsync(back, device, BYTES, cudaMemcpyDefault, stream));
        OK(cudaStreamSynchronize(stream));
        assert_memory_equal(pinned, pageable, BYTES);
        assert_true(is_filled(back, BYTES, 3));
        OK(cudaMemset(device, 4, BYTES));
        OK(cudaMemcpy(back, device, BYTES, cudaMemcpyDeviceToHost)); /* behind it: one stream */
        assert_true(is_filled(back, BYTES, 4));
        OK(cudaFree(device));
        OK(cudaFreeHost(pinned));
        OK(cudaStreamDestroy(stream));
        assert_clean();
    }
}

/* Whether the device got what the buffer held during the call, and not what it held afterwards. */
static bool reused_buffer_was_read_in_time(uint64_t seed, bool pinned)
{
    fresh(seed);
    cudaStream_t stream = stream_new();
    unsigned char *device = device_new(BYTES);
    unsigned char pageable[BYTES];
    unsigned char back[BYTES];
    unsigned char *source = pinned ? pinned_new(BYTES) : pageable;
    memset(source, 1, BYTES);
    OK(cudaMemcpyAsync(device, source, BYTES, cudaMemcpyHostToDevice, stream));
    if (cudaStreamQuery(stream) == cudaErrorNotReady) {
        memset(source, 2, BYTES); /* too early, but for a staged copy */
    }
    OK(cudaStreamSynchronize(stream));
    OK(cudaMemcpy(back, device, BYTES, cudaMemcpyDeviceToHost));
    const bool in_time = is_filled(back, BYTES, 1);
    if (pinned) {
        OK(cudaFreeHost(source));
    }
    OK(cudaFree(device));
    OK(cudaStreamDestroy(stream));
    return in_time;
}

static void a_source_that_is_reused_too_early_shows(void **state)
{
    (void)state;
    int early[2] = {0, 0};
    int in_time[2] = {0, 0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        for (int pinned = 0; pinned < 2; pinned++) {
            const bool right = reused_buffer_was_read_in_time(seed, pinned == 1);
            early[pinned] += !right;
            in_time[pinned] += right;
        }
    }
    assert_true(early[0] > 0 && early[1] > 0);
    assert_true(in_time[0] > 0);
}

static void wrong_ranges_and_directions_are_misuse(void **state)
{
    (void)state;
    fresh(2);
    cudaStream_t stream = stream_new();
    unsigned char *device = device_new(BYTES);
    unsigned char host[BYTES];
    assert_int_equal(cudaMemcpyAsync(device + 1, host, BYTES, cudaMemcpyHostToDevice, stream),
                     cudaErrorInvalidValue);
    assert_misuse("bytes 1 to 1001 of allocation");
    assert_int_equal(cudaMemcpyAsync(device, host, BYTES, cudaMemcpyDeviceToHost, stream),
                     cudaErrorInvalidMemcpyDirection);
    assert_misuse("direction");
    assert_int_equal(cudaMemcpyAsync(device, device + 10, 20, cudaMemcpyDeviceToDevice, stream),
                     cudaErrorInvalidValue);
    assert_misuse("overlap");
    assert_int_equal(cudaMemsetAsync(host, 0, 4, stream), cudaErrorInvalidValue);
    assert_misuse("no CUDA memory");
    assert_false(standin_check_device_range(1, device, 4, "kernel"));
    assert_misuse("device 0's, not device 1's");
    assert_true(standin_check_device_range(0, device + BYTES - 4, 4, "kernel"));
    assert_int_equal(cudaFree(device + 4), cudaErrorInvalidValue);
    assert_misuse("was not allocated for this");
    assert_int_equal(cudaFreeHost(device), cudaErrorInvalidValue);
    assert_misuse("was not allocated for this");
    OK(cudaFree(device));
    assert_int_equal(cudaFree(device), cudaErrorInvalidValue);
    assert_misuse("was freed before");
    OK(cudaStreamDestroy(stream));
    assert_clean();
}

static void memory_freed_under_an_operation_is_misuse(void **state)
{
    (void)state;
    int noticed = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        fresh(seed);
        cudaStream_t stream = stream_new();
        unsigned char *device = device_new(BYTES);
        OK(cudaMemsetAsync(device, 0, BYTES, stream));
        OK(cudaFree(device));
        OK(cudaStreamSynchronize(stream));
        noticed += standin_misuses();
        OK(cudaStreamDestroy(stream));
        standin_misuse_clear();
    }
    assert_true(noticed > 0);
}

#if !defined(__SANITIZE_ADDRESS__) /* which ends the program at the spot */
static void writes_beside_memory_are_found(void **state)
{
    (void)state;
    fresh(4);
    unsigned char *device = device_new(BYTES);
    device[BYTES] = 0;
    OK(cudaFree(device));
    assert_misuse("behind the end");
    device = device_new(BYTES);
    device[-1] = 0;
    OK(cudaFree(device));
    assert_misuse("before the start");
    device = device_new(BYTES);
    OK(cudaFree(device));
    assert_true(is_filled(device, BYTES, 0xFF));
    device[BYTES / 2] = 0;
    standin_drain();
    fresh(4); /* looks, but forgets with the rest */
    device = device_new(BYTES);
    OK(cudaFree(device));
    assert_clean();
}
#endif

static void leaks_are_listed(void **state)
{
    (void)state;
    char text[256];
    fresh(6);
    cudaStream_t stream = stream_new();
    cudaEvent_t event = event_new();
    void *device = device_new(BYTES);
    assert_int_equal(standin_leaks(text, sizeof(text)), 3);
    assert_string_equal(text, "stream: 1, event: 1, device allocation: 1");
    OK(cudaEventDestroy(event));
    OK(cudaStreamDestroy(stream));
    OK(cudaFree(device));
    standin_alive("handle", 1);
    assert_int_equal(standin_leaks(text, sizeof(text)), 1);
    assert_string_equal(text, "handle: 1");
    standin_alive("handle", -1);
    assert_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_memory_is_poison),
        cmocka_unit_test(memory_beyond_the_limit_is_refused),
        cmocka_unit_test(copies_and_fills_do_what_they_say),
        cmocka_unit_test(a_source_that_is_reused_too_early_shows),
        cmocka_unit_test(wrong_ranges_and_directions_are_misuse),
        cmocka_unit_test(memory_freed_under_an_operation_is_misuse),
#if !defined(__SANITIZE_ADDRESS__)
        cmocka_unit_test(writes_beside_memory_are_found),
#endif
        cmocka_unit_test(leaks_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
