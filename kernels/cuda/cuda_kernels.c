/* The cuda table of kernels: its making, and the lanes of the streams that it is used on. */
#include "kernels/cuda/cuda_kernels.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "device/cuda/cuda_device.h"
#include "kernels/cuda/cuda_product.h"

typedef struct cuda_kernels {
    dpr_kernels_t table;
    dpr_device_t *device;
    dpr_cuda_products_t products;
    dpr_cuda_lane_t *lanes;
} cuda_kernels_t;

static const cuda_kernels_t *of_table(const dpr_kernels_t *table)
{
    return (const cuda_kernels_t *)table;
}

const dpr_cuda_products_t *dpr_cuda_products(const dpr_kernels_t *kernels)
{
    return &of_table(kernels)->products;
}

dpr_status_t dpr_cuda_kernels_fail(cudaError_t error, const char *call, const char *what)
{
    cudaGetLastError(); /* it has been reported */
    return dpr_fail(DPR_ERR_DEVICE, "cuda kernels: %s for %s failed: %s (%s)", call, what,
                    cudaGetErrorName(error), cudaGetErrorString(error));
}

static dpr_cuda_lane_t *find_lane(const cuda_kernels_t *self, const dpr_stream_t *stream)
{
    dpr_cuda_lane_t *lane = self->lanes;
    while (lane != NULL && lane->stream != stream) {
        lane = lane->next;
    }
    return lane;
}

dpr_status_t dpr_cuda_site_of(const dpr_kernels_t *kernels, dpr_stream_t *stream,
                              dpr_cuda_site_t *site)
{
    dpr_cuda_lane_t *lane = find_lane(of_table(kernels), stream);
    if (lane == NULL) {
        return dpr_fail(DPR_ERR_INVALID, "cuda kernels: the stream was not prepared for kernels");
    }
    *site = (dpr_cuda_site_t){
        .lane = lane, .stream = dpr_cuda_stream_handle(stream), .dtype = kernels->dtype};
    return DPR_OK;
}

static void lane_destroy(dpr_device_t *device, dpr_cuda_lane_t *lane)
{
    dpr_device_free(device, DPR_MEMORY_DEVICE, lane->workspace);
    free(lane->plans);
    free(lane);
}

static dpr_status_t prepare(dpr_kernels_t *kernels, dpr_stream_t *stream)
{
    cuda_kernels_t *self = (cuda_kernels_t *)kernels;
    if (find_lane(self, stream) != NULL) {
        return DPR_OK;
    }
    dpr_status_t status;
    dpr_cuda_lane_t *lane;
    DPR_TRY(dpr_calloc(1, sizeof *lane, &lane));
    DPR_TRY_GOTO(dpr_cuda_plans_create(&lane->plans), free_lane);
    DPR_TRY_GOTO(dpr_device_alloc(self->device, DPR_MEMORY_DEVICE, kernels->workspace_bytes,
                                  &lane->workspace),
                 free_plans);
    lane->scratch = (char *)lane->workspace + self->products.workspace_bytes;
    lane->stream = stream;
    lane->next = self->lanes;
    self->lanes = lane;
    return DPR_OK;
free_plans:
    free(lane->plans);
free_lane:
    free(lane);
    return status;
}

/* Plans made for another number are kept, and found again if it comes back. At least one is left,
 * since a target of 0 would mean all. */
static dpr_status_t leave(dpr_kernels_t *kernels, int multiprocessors)
{
    cuda_kernels_t *self = (cuda_kernels_t *)kernels;
    const int ordinal = dpr_cuda_device_ordinal(self->device);
    int all;
    DPR_TRY(DPR_CUDA(cudaDeviceGetAttribute(&all, cudaDevAttrMultiProcessorCount, ordinal)));
    const int rest = multiprocessors < all ? all - multiprocessors : 1;
    self->products.multiprocessors = multiprocessors > 0 ? rest : 0;
    return DPR_OK;
}

static void destroy(dpr_kernels_t *kernels)
{
    cuda_kernels_t *self = (cuda_kernels_t *)kernels;
    while (self->lanes != NULL) {
        dpr_cuda_lane_t *lane = self->lanes;
        self->lanes = lane->next;
        lane_destroy(self->device, lane);
    }
    dpr_cuda_products_close(&self->products);
    free(self);
}

/*
 * What a stream's products may use: NVIDIA's recommendation by compute capability (cuBLAS
 * documentation, cublasSetWorkspace): 32 MiB for 9.0 and 10.x, 12 MiB for 12.x, 4 MiB for others.
 */
static size_t product_workspace_bytes(int compute_major)
{
    const size_t mib = (size_t)1 << 20;
    return compute_major == 9 || compute_major == 10 ? 32 * mib
           : compute_major == 12                     ? 12 * mib
                                                     : 4 * mib;
}

static dpr_status_t open_products(cuda_kernels_t *self, dpr_dtype_t dtype)
{
    const int ordinal = dpr_cuda_device_ordinal(self->device);
    int major;
    DPR_TRY(dpr_cuda_device_enter(self->device));
    DPR_TRY(DPR_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal)));
    return dpr_cuda_products_open(&self->products, dtype, product_workspace_bytes(major));
}

dpr_status_t dpr_cuda_kernels_create(dpr_device_t *device, dpr_dtype_t dtype,
                                     dpr_kernels_t **kernels)
{
    dpr_status_t status;
    cuda_kernels_t *self;
    DPR_TRY(dpr_calloc(1, sizeof *self, &self));
    self->device = device;
    DPR_TRY_GOTO(open_products(self, dtype), free_self);
    self->table = (dpr_kernels_t){
        .kind = "cuda",
        .dtype = dtype,
        .workspace_bytes = self->products.workspace_bytes + DPR_CUDA_SCRATCH_BYTES,
        .destroy = destroy,
        .prepare = prepare,
        .leave = leave,
        .convert = dpr_cuda_convert,
        .layernorm_forward = dpr_cuda_layernorm_forward,
        .layernorm_backward_input = dpr_cuda_layernorm_backward_input,
        .layernorm_backward_weight = dpr_cuda_layernorm_backward_weight,
        .linear_forward = dpr_cuda_linear_forward,
        .linear_backward_input = dpr_cuda_linear_backward_input,
        .linear_backward_weight = dpr_cuda_linear_backward_weight,
        .softmax_cross_entropy = dpr_cuda_softmax_cross_entropy,
        .sum_squares = dpr_cuda_sum_squares,
        .clip_factor = dpr_cuda_clip_factor,
        .adamw = dpr_cuda_adamw,
        .sgd = dpr_cuda_sgd,
    };
    *kernels = &self->table;
    return DPR_OK;
free_self:
    free(self);
    return status;
}
