/* The trainer's data: opened where needed, known to all, fed to the pipeline by loaders. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "runtime/trainer_impl.h"

/* ---- Data ---- */

/* What every rank must know of the data, also those that hold none. */
typedef struct data_facts {
    int64_t train_count;
    int64_t test_count;
    int32_t features;
    int32_t classes;
} data_facts_t;

static dpr_status_t open_needed(dpr_trainer_t *trainer)
{
    int32_t *holders;
    bool needed = trainer->rank == 0 && trainer->config->verify;
    const int last = trainer->program.stages - 1;
    DPR_TRY(dpr_calloc(2 * (size_t)trainer->program.stages, sizeof *holders, &holders));
    const dpr_status_t status = dpr_program_holders(&trainer->program, holders);
    for (int i = 0; i < 2 && status == DPR_OK; i++) {
        needed = needed || holders[i] == trainer->rank || holders[2 * last + i] == trainer->rank;
    }
    free(holders);
    DPR_TRY(status);
    return needed ? dpr_dataset_open(trainer->config->data, &trainer->train, &trainer->test)
                  : DPR_OK;
}

static dpr_status_t share_facts(dpr_trainer_t *trainer, data_facts_t *facts)
{
    const data_facts_t mine = {.train_count = (int64_t)trainer->train.count,
                               .test_count = (int64_t)trainer->test.count,
                               .features = trainer->train.features,
                               .classes = trainer->train.classes};
    data_facts_t *all;
    DPR_TRY(dpr_calloc((size_t)trainer->ranks, sizeof *all, &all));
    dpr_status_t status = dpr_comm_allgather(trainer->comm, &mine, sizeof mine, all);
    for (int r = 0; r < trainer->ranks && status == DPR_OK; r++) {
        if (all[r].train_count == 0) {
            continue;
        }
        if (mine.train_count > 0 && memcmp(&all[r], &mine, sizeof mine) != 0) {
            status = dpr_fail(DPR_ERR_DATA,
                              "the data differ between ranks: %lld training samples of %d features "
                              "on rank %d, %lld of %d on rank %d",
                              (long long)mine.train_count, mine.features, trainer->rank,
                              (long long)all[r].train_count, all[r].features, r);
        }
        *facts = all[r];
    }
    free(all);
    return status;
}

static dpr_status_t plan_steps(dpr_trainer_t *trainer, const data_facts_t *facts)
{
    const dpr_train_config_t *config = trainer->config;
    trainer->global_batch =
        (size_t)trainer->program.micro_batches * (size_t)config->micro_batch_size;
    trainer->test_samples = (long)facts->test_count;
    DPR_TRY(dpr_batch_train_steps((size_t)facts->train_count, trainer->program.micro_batches,
                                  config->micro_batch_size, &trainer->steps_per_epoch));
    trainer->total_steps = config->steps;
    if (config->steps == 0) {
        trainer->total_steps = trainer->steps_per_epoch * config->epochs;
    }
    trainer->model = (dpr_model_config_t){
        .input = facts->features,
        .hidden = config->hidden,
        .ffn = config->ffn,
        .classes = facts->classes,
        .blocks = dpr_train_config_blocks(config, trainer->ranks, trainer->program.stages),
        .micro_batch_size = config->micro_batch_size,
        .seed = config->seed,
        .dtype = config->dtype,
    };
    return DPR_OK;
}

/* After each part the ranks agree, so that all fail or none does. */
dpr_status_t trainer_open_data(dpr_trainer_t *trainer)
{
    data_facts_t facts = {0};
    DPR_TRY(dpr_comm_agree(trainer->comm, open_needed(trainer), NULL));
    DPR_TRY(dpr_comm_agree(trainer->comm, share_facts(trainer, &facts), NULL));
    return dpr_comm_agree(trainer->comm, plan_steps(trainer, &facts), NULL);
}

/* ---- Feeds ---- */

static dpr_status_t create_feed(dpr_trainer_t *trainer, const dpr_dataset_t *dataset,
                                dpr_loader_order_t order, const bool *needs_inputs,
                                const bool *needs_labels, feed_t *feed)
{
    const size_t samples = trainer->global_batch;
    for (int i = 0; i < 2; i++) {
        DPR_TRY(dpr_device_alloc(trainer->device, DPR_MEMORY_PINNED,
                                 samples * (size_t)trainer->model.input * sizeof(float),
                                 (void **)&feed->inputs[i]));
        DPR_TRY(dpr_device_alloc(trainer->device, DPR_MEMORY_PINNED, samples * sizeof(int32_t),
                                 (void **)&feed->labels[i]));
    }
    const dpr_loader_options_t options = {
        .dataset = dataset,
        .order = order,
        .seed = trainer->config->seed,
        .micro_batches = trainer->program.micro_batches,
        .micro_batch_size = trainer->config->micro_batch_size,
        .needs_inputs = needs_inputs,
        .needs_labels = needs_labels,
        .inputs = {feed->inputs[0], feed->inputs[1]},
        .labels = {feed->labels[0], feed->labels[1]},
    };
    return dpr_loader_create(&options, &feed->loader);
}

dpr_status_t trainer_create_feeds(dpr_trainer_t *trainer)
{
    const size_t micro_batches = (size_t)trainer->program.micro_batches;
    bool *needs;
    bool any = false;
    DPR_TRY(dpr_calloc(2 * micro_batches, sizeof *needs, &needs));
    for (size_t m = 0; m < micro_batches; m++) {
        needs[m] = dpr_pipeline_needs_inputs(trainer->pipeline, (int)m);
        needs[micro_batches + m] = dpr_pipeline_needs_labels(trainer->pipeline, (int)m);
        any = any || needs[m] || needs[micro_batches + m];
    }
    dpr_status_t status = DPR_OK;
    if (any) {
        status = create_feed(trainer, &trainer->train, DPR_LOADER_TRAIN, needs,
                             needs + micro_batches, &trainer->train_feed);
    }
    if (any && status == DPR_OK) {
        status = create_feed(trainer, &trainer->test, DPR_LOADER_EVAL, needs, needs + micro_batches,
                             &trainer->test_feed);
    }
    free(needs);
    return status;
}

static void destroy_feed(dpr_trainer_t *trainer, feed_t *feed)
{
    dpr_loader_destroy(feed->loader);
    for (int i = 0; i < 2 && trainer->device != NULL; i++) {
        dpr_device_free(trainer->device, DPR_MEMORY_PINNED, feed->inputs[i]);
        dpr_device_free(trainer->device, DPR_MEMORY_PINNED, feed->labels[i]);
    }
}

void trainer_destroy_feeds(dpr_trainer_t *trainer)
{
    destroy_feed(trainer, &trainer->train_feed);
    destroy_feed(trainer, &trainer->test_feed);
}
