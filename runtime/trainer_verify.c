/*
 * --verify: every step's loss and gradients against the same steps in one process, on rank 0: on a
 * device of its own, of the run's kind and number format (cuda: on the same GPU, which then holds
 * the whole model beside rank 0's part).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "runtime/trainer_impl.h"

/* Bytes of the gradients that rank r speaks for. */
static size_t owned_bytes(const dpr_trainer_t *trainer, int rank)
{
    size_t bytes = 0;
    for (int s = 0; s < trainer->program.stages; s++) {
        if (dpr_pipeline_owner(trainer->pipeline, s) == rank) {
            bytes += dpr_pipeline_shapes(trainer->pipeline)[s].parameters * sizeof(float);
        }
    }
    return bytes;
}

/* With products cut as this rank's are: other algorithms would sum in another order. */
static dpr_status_t create_cuda(const dpr_trainer_t *trainer, verifier_t *verifier)
{
    dpr_comm_needs_t needs;
    dpr_pipeline_comm_needs(trainer->pipeline, &needs);
    DPR_TRY(dpr_cuda_device_create(trainer->choice.ordinal, DPR_CLOCK_WALL, &verifier->device));
    DPR_TRY(dpr_cuda_kernels_create(verifier->device, trainer->model.dtype, &verifier->kernels));
    return verifier->kernels->leave(verifier->kernels, needs.multiprocessors);
}

static dpr_status_t create_device(const dpr_trainer_t *trainer, verifier_t *verifier)
{
    if (trainer->choice.is_cuda) {
        return create_cuda(trainer, verifier);
    }
    const dpr_host_device_options_t options = {.clock = DPR_CLOCK_WALL};
    DPR_TRY(dpr_host_device_create(&options, &verifier->device));
    return dpr_host_kernels_create(&verifier->kernels);
}

static dpr_status_t create_reference(dpr_trainer_t *trainer)
{
    verifier_t *verifier = &trainer->verifier;
    size_t largest = 0;
    for (int s = 0; s < trainer->program.stages; s++) {
        const size_t count = dpr_pipeline_shapes(trainer->pipeline)[s].parameters;
        largest = count > largest ? count : largest;
    }
    DPR_TRY(create_device(trainer, verifier));
    DPR_TRY(dpr_calloc(largest, sizeof(float), &verifier->expected));
    DPR_TRY(dpr_calloc(trainer->global_batch * (size_t)trainer->model.input, sizeof(float),
                       &verifier->inputs));
    DPR_TRY(dpr_calloc(trainer->global_batch, sizeof(int32_t), &verifier->labels));
    DPR_TRY(dpr_calloc(trainer->train.count, sizeof(uint32_t), &verifier->order));
    return dpr_reference_create(&trainer->model, trainer->program.stages,
                                &trainer->config->optimizer, trainer->total_steps, verifier->device,
                                verifier->kernels, &verifier->reference);
}

dpr_status_t trainer_verify_create(dpr_trainer_t *trainer)
{
    verifier_t *verifier = &trainer->verifier;
    size_t total = 0;
    verifier->result = (dpr_verify_report_t){
        .done = true, .tolerance = dpr_reference_tolerance(trainer->model.dtype)};
    DPR_TRY(dpr_calloc((size_t)trainer->ranks, sizeof(size_t), &verifier->bytes));
    for (int r = 0; r < trainer->ranks; r++) {
        verifier->bytes[r] = owned_bytes(trainer, r);
        total += verifier->bytes[r];
    }
    DPR_TRY(dpr_device_alloc(trainer->device, DPR_MEMORY_PINNED, verifier->bytes[trainer->rank],
                             (void **)&verifier->mine));
    DPR_TRY(dpr_stream_create(trainer->device, "verify", 0, &verifier->stream));
    if (trainer->rank != 0) {
        return DPR_OK;
    }
    DPR_TRY(dpr_calloc(total, 1, &verifier->all));
    return create_reference(trainer);
}

void trainer_verify_destroy(dpr_trainer_t *trainer)
{
    verifier_t *verifier = &trainer->verifier;
    dpr_reference_destroy(verifier->reference);
    dpr_kernels_destroy(verifier->kernels);
    dpr_device_destroy(verifier->device);
    dpr_stream_destroy(verifier->stream);
    if (trainer->device != NULL) {
        dpr_device_free(trainer->device, DPR_MEMORY_PINNED, verifier->mine);
    }
    free(verifier->inputs);
    free(verifier->labels);
    free(verifier->order);
    free(verifier->all);
    free(verifier->expected);
    free(verifier->bytes);
}

/* Copies the gradients that this rank speaks for, stage by stage, to the host. */
static dpr_status_t fetch_gradients(dpr_trainer_t *trainer)
{
    float *to = trainer->verifier.mine;
    dpr_stream_t *stream = trainer->verifier.stream;
    for (int s = 0; s < trainer->program.stages; s++) {
        if (dpr_pipeline_owner(trainer->pipeline, s) != trainer->rank) {
            continue;
        }
        const size_t count = dpr_pipeline_shapes(trainer->pipeline)[s].parameters;
        DPR_TRY(dpr_stream_copy(stream, to,
                                dpr_stage_gradients(dpr_pipeline_stage(trainer->pipeline, s)),
                                count * sizeof(float)));
        to += count;
    }
    return dpr_stream_synchronize(stream);
}

/* The whole global batch of `step`, gathered on rank 0 whatever its stages. */
static void gather_batch(dpr_trainer_t *trainer, long step)
{
    verifier_t *verifier = &trainer->verifier;
    const long in_epoch = step % trainer->steps_per_epoch;
    dpr_batch_order(trainer->config->seed, step / trainer->steps_per_epoch, trainer->train.count,
                    verifier->order);
    dpr_batch_gather(&trainer->train, verifier->order, (size_t)in_epoch * trainer->global_batch,
                     (int)trainer->global_batch, verifier->inputs, verifier->labels);
}

/* Larger of the two; a NaN stays. */
static double worse(double a, double b)
{
    return b > a || isnan(b) ? b : a;
}

/* Where stage s's gradients begin in what rank 0 has gathered: rank by rank, then stage by stage.
 */
static const float *gathered_stage(const dpr_trainer_t *trainer, int stage)
{
    const int owner = dpr_pipeline_owner(trainer->pipeline, stage);
    size_t offset = 0;
    for (int r = 0; r < owner; r++) {
        offset += trainer->verifier.bytes[r] / sizeof(float);
    }
    for (int s = 0; s < stage; s++) {
        if (dpr_pipeline_owner(trainer->pipeline, s) == owner) {
            offset += dpr_pipeline_shapes(trainer->pipeline)[s].parameters;
        }
    }
    return trainer->verifier.all + offset;
}

static dpr_status_t compare(dpr_trainer_t *trainer, long step)
{
    verifier_t *verifier = &trainer->verifier;
    double loss;
    gather_batch(trainer, step);
    DPR_TRY(dpr_reference_step(verifier->reference, verifier->inputs, verifier->labels,
                               trainer->program.micro_batches, step, &loss));
    verifier->result.loss_difference =
        worse(verifier->result.loss_difference, fabs(trainer->loss[step] - loss) / fabs(loss));
    for (int s = 0; s < trainer->program.stages; s++) {
        DPR_TRY(dpr_reference_read_gradients(verifier->reference, s, verifier->expected));
        const double difference =
            dpr_relative_difference(gathered_stage(trainer, s), verifier->expected,
                                    dpr_pipeline_shapes(trainer->pipeline)[s].parameters);
        verifier->result.gradient_difference =
            worse(verifier->result.gradient_difference, difference);
    }
    verifier->result.steps++;
    return DPR_OK;
}

dpr_status_t trainer_verify_step(dpr_trainer_t *trainer, long step)
{
    verifier_t *verifier = &trainer->verifier;
    DPR_TRY(fetch_gradients(trainer));
    DPR_TRY(dpr_comm_gather(trainer->comm, 0, verifier->mine, verifier->bytes, verifier->all));
    return trainer->rank == 0 ? compare(trainer, step) : DPR_OK;
}
