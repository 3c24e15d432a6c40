/* The emulation of CUDA kernels: what it computes, what it shuffles, and the misuse that it finds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern "C" {
#include <cmocka.h>
}

#include "standin.h"

namespace
{

enum { MOST = 4096, SEEDS = 20 };

struct args {
    int n;
    unsigned *out;
};

unsigned *memory; /* [MOST], of the device */

template <typename A> cudaError_t launch(void (*kernel)(A), dim3 grid, dim3 block, A arguments)
{
    void *pointers[] = {&arguments};
    return cudaLaunchKernel(kernel, grid, block, pointers, 0, nullptr);
}

void begin(uint64_t seed)
{
    standin_options_t options = {};
    options.seed = seed;
    options.quiet = true;
    standin_reset(&options);
    void *allocated;
    assert_int_equal(cudaMalloc(&allocated, MOST * sizeof *memory), cudaSuccess);
    memory = (unsigned *)allocated;
}

void end()
{
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    assert_int_equal(standin_misuses(), 0);
    assert_int_equal(cudaFree(memory), cudaSuccess);
}

void run(void (*kernel)(args), dim3 grid, dim3 block, int n)
{
    assert_int_equal(launch(kernel, grid, block, args{n, memory}), cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
}

__global__ void write_place(const args a)
{
    const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    const unsigned at = block * blockDim.x * blockDim.y * blockDim.z + thread;
    a.out[at] = a.out[at] == UINT_MAX ? at + (unsigned)a.n : 0;
}

void every_thread_of_every_block_runs_once(void **)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        begin(seed);
        assert_int_equal(cudaMemset(memory, 0xFF, MOST * sizeof *memory), cudaSuccess);
        run(write_place, dim3(3, 2, 5), dim3(7, 3, 2), 11);
        for (unsigned i = 0; i < 3 * 2 * 5 * 7 * 3 * 2; i++) {
            assert_int_equal(memory[i], i + 11);
        }
        end();
    }
}

/* The sum of a block's thread numbers, by shuffles, shared memory and a barrier. */
__global__ void sum_threads(const args a)
{
    __shared__ unsigned sums[32];
    unsigned sum = threadIdx.x;
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        sum += __shfl_xor_sync(0xffffffffU, sum, lanes);
    }
    if (threadIdx.x % 32 == 0) {
        sums[threadIdx.x / 32] = sum;
    }
    __syncthreads();
    unsigned all = 0;
    for (unsigned w = 0; w < blockDim.x / 32; w++) {
        all += sums[w];
    }
    a.out[blockIdx.x * blockDim.x + threadIdx.x] = all;
}

void shuffles_and_barriers_order_a_reduction(void **)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        begin(seed);
        run(sum_threads, 4, 256, 0);
        for (unsigned i = 0; i < 4 * 256; i++) {
            assert_int_equal(memory[i], 255 * 256 / 2);
        }
        end();
    }
}

/* A double's halves travel together. */
__global__ void swap_doubles(const args a)
{
    const double mine = 1.0 / (1.0 + threadIdx.x);
    const double other = __shfl_xor_sync(0xffffffffU, mine, 1);
    a.out[threadIdx.x] = other == 1.0 / (1.0 + (threadIdx.x ^ 1U)) ? 1 : 0;
}

void shuffles_move_doubles_and_leave_other_lanes_alone(void **)
{
    begin(3);
    run(swap_doubles, 1, 64, 0);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(memory[i], 1);
    }
    end();
}

unsigned *values_room()
{
    __shared__ unsigned values[64];
    return values;
}

template <bool BARRIER> __global__ void reverse(const args a)
{
    unsigned *values = values_room();
    values[threadIdx.x] = threadIdx.x;
    if (BARRIER) {
        __syncthreads();
    }
    a.out[threadIdx.x] = values[63 - threadIdx.x];
}

bool is_reversed()
{
    for (unsigned i = 0; i < 64; i++) {
        if (memory[i] != 63 - i) {
            return false;
        }
    }
    return true;
}

void a_missing_barrier_shows(void **)
{
    int right = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        begin(seed);
        run(reverse<true>, 1, 64, 0);
        assert_true(is_reversed());
        run(reverse<false>, 1, 64, 0);
        right += is_reversed();
        end();
    }
    assert_int_equal(right, 0); /* each thread would have to run before itself */
}

/* Hands a value around the block, warp by warp, through the same place. */
template <bool BARRIER> __global__ void pass_on(const args a)
{
    unsigned *values = values_room();
    unsigned sum = 0;
    for (unsigned round = 0; round < 8; round++) {
        if (threadIdx.x == 0) {
            values[0] = round;
        }
        __syncthreads();
        sum += values[0];
        if (BARRIER) {
            __syncthreads(); /* all have read it */
        }
    }
    a.out[threadIdx.x] = sum;
}

int count_wrong(unsigned n, unsigned want)
{
    int wrong = 0;
    for (unsigned i = 0; i < n; i++) {
        wrong += memory[i] != want;
    }
    return wrong;
}

void a_write_that_may_come_before_a_read_shows(void **)
{
    int wrong = 0;
    for (uint64_t seed = 1; seed < SEEDS; seed++) {
        begin(seed);
        run(pass_on<true>, 1, 128, 0);
        assert_int_equal(count_wrong(128, 28), 0);
        run(pass_on<false>, 1, 128, 0);
        wrong += count_wrong(128, 28);
        end();
    }
    assert_true(wrong > 0);
}

__global__ void read_fresh(const args a)
{
    __shared__ unsigned values[64];
    a.out[blockIdx.x * 64 + threadIdx.x] = values[threadIdx.x];
    values[threadIdx.x] = 1;
}

void shared_memory_is_poisoned_for_every_block(void **)
{
    begin(1);
    run(read_fresh, 3, 64, 0);
    for (unsigned i = 0; i < 3 * 64; i++) {
        assert_int_equal(memory[i], UINT_MAX);
    }
    end();
}

/* Kernels that a GPU would hang in, or worse. */

__global__ void half_a_barrier(const args a)
{
    if (threadIdx.x < 16) {
        __syncthreads();
    }
    a.out[threadIdx.x] = 1;
}

__global__ void two_barriers(const args)
{
    if (threadIdx.x < 16) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}

__global__ void half_a_shuffle(const args a)
{
    if (threadIdx.x < 16) {
        a.out[threadIdx.x] = __shfl_xor_sync(0xffffffffU, threadIdx.x, 1);
    }
}

__global__ void shuffle_without_me(const args a)
{
    a.out[threadIdx.x] = __shfl_xor_sync(0x0000ffffU, threadIdx.x, 1);
}

__global__ void shuffle_from_outside(const args a)
{
    if (threadIdx.x < 16) {
        a.out[threadIdx.x] = __shfl_xor_sync(0x0000ffffU, threadIdx.x, 16);
    }
}

__global__ void barrier_against_shuffle(const args a)
{
    if (threadIdx.x == 5) {
        __syncthreads();
    }
    a.out[threadIdx.x] = __shfl_xor_sync(0xffffffffU, threadIdx.x, 1);
}

void expect_misuse(void (*kernel)(args), const char *words)
{
    char text[1024];
    for (uint64_t seed = 0; seed < 5; seed++) {
        begin(seed);
        run(kernel, 1, 32, 0);
        assert_int_equal(standin_misuses(), 1);
        if (strstr(standin_misuse_text(text, sizeof text), words) == nullptr) {
            fail_msg("'%s' is not in: %s", words, text);
        }
        standin_misuse_clear();
        end();
    }
}

void divergence_is_misuse(void **)
{
    expect_misuse(half_a_barrier, "waits at a barrier");
    expect_misuse(two_barriers, "waits at a barrier");
    expect_misuse(half_a_shuffle, "waits at a shuffle");
    expect_misuse(shuffle_without_me, "does not name it");
    expect_misuse(shuffle_from_outside, "not in the mask");
    expect_misuse(barrier_against_shuffle, "not all take part");
}

void expect_refusal(dim3 grid, dim3 block, size_t shared_bytes)
{
    args arguments = {0, memory};
    void *pointers[] = {&arguments};
    assert_int_equal(cudaLaunchKernel(write_place, grid, block, pointers, shared_bytes, nullptr),
                     cudaErrorInvalidConfiguration);
    assert_int_equal(standin_misuses(), 1);
    standin_misuse_clear();
}

void launches_that_no_gpu_takes_are_refused(void **)
{
    begin(0);
    expect_refusal(0, 32, 0);
    expect_refusal(dim3(1, 65536, 1), 32, 0);
    expect_refusal(dim3(1, 1, 65536), 32, 0);
    expect_refusal(1, 0, 0);
    expect_refusal(1, 1025, 0);
    expect_refusal(1, dim3(1, 1, 65), 0);
    expect_refusal(1, dim3(32, 33, 1), 0);
    expect_refusal(1, 32, 1024);
    end();
}

void a_launch_can_be_made_to_fail(void **)
{
    begin(0);
    standin_failure_t failure = {};
    failure.function = "cudaLaunchKernel";
    failure.call = 2;
    failure.error = cudaErrorInvalidDeviceFunction;
    standin_inject(&failure);
    const args a = {11, memory};
    assert_int_equal(launch(write_place, 1, 32, a), cudaSuccess);
    assert_int_equal(launch(write_place, 1, 32, a), cudaErrorInvalidDeviceFunction);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidDeviceFunction);
    standin_inject(nullptr);
    end();
}

} // namespace

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_of_every_block_runs_once),
        cmocka_unit_test(shuffles_and_barriers_order_a_reduction),
        cmocka_unit_test(shuffles_move_doubles_and_leave_other_lanes_alone),
        cmocka_unit_test(a_missing_barrier_shows),
        cmocka_unit_test(a_write_that_may_come_before_a_read_shows),
        cmocka_unit_test(shared_memory_is_poisoned_for_every_block),
        cmocka_unit_test(divergence_is_misuse),
        cmocka_unit_test(launches_that_no_gpu_takes_are_refused),
        cmocka_unit_test(a_launch_can_be_made_to_fail),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
