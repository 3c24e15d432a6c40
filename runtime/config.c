/* Defaults, checks and what follows from a training run's options. */
#include "runtime/config.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "schedule/csv.h"
#include "schedule/generators.h"

enum { DEFAULT_BLOCKS = 16 };

void dpr_train_config_default(dpr_train_config_t *config)
{
    *config = (dpr_train_config_t){
        .auto_budget_sec = 2.0,
        .micro_batch_size = 32,
        .hidden = 256,
        .ffn = 1024,
        .data = "fashion-mnist",
        .epochs = 3,
        .seed = 1,
        .device = "auto",
        .comm = "auto",
        .timeout_sec = 600.0,
        .refresh_steps = -1,
        .clock = "auto",
        .calibrate_steps = 30,
        .recv_ahead = 2,
    };
    dpr_optimizer_config_default(&config->optimizer);
}

static dpr_status_t check_range(const char *option, long value, long least, long most)
{
    if (value < least || value > most) {
        return dpr_fail(DPR_ERR_INVALID, "%s %ld is out of range: give at most %ld", option, value,
                        most);
    }
    return DPR_OK;
}

static dpr_status_t check_word(const char *option, const char *word, const char *const *allowed)
{
    char list[128] = "";
    for (size_t i = 0; allowed[i] != NULL; i++) {
        if (strcmp(word, allowed[i]) == 0) {
            return DPR_OK;
        }
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used > 0 ? ", " : "", allowed[i]);
    }
    return dpr_fail(DPR_ERR_INVALID, "%s '%s' is unknown: give one of %s", option, word, list);
}

static dpr_status_t check_numbers(const dpr_train_config_t *config)
{
    const struct {
        const char *option;
        long value, least, most;
    } ranges[] = {
        {"--micro-batches", config->micro_batches, 0, DPR_MAX_MICRO_BATCHES},
        {"--activations", config->activations, 0, DPR_MAX_MICRO_BATCHES},
        {"--micro-batch-size", config->micro_batch_size, 1, 1 << 20},
        {"--hidden", config->hidden, 1, 1 << 20},
        {"--ffn", config->ffn, 1, 1 << 22},
        {"--blocks", config->blocks, 0, 1 << 20},
        {"--warmup", config->optimizer.warmup_steps, 0, 1000000000},
        {"--epochs", config->epochs, 1, 1000000},
        {"--steps", config->steps, 0, 1000000000},
        {"--calibrate", config->calibrate_steps, 1, 1000},
        {"--refresh", config->refresh_steps, -1, 1000000000},
        {"--recv-slots", config->recv_slots, 0, DPR_MAX_MICRO_BATCHES},
        {"--recv-ahead", config->recv_ahead, 0, DPR_MAX_MICRO_BATCHES},
        {"--send-slots", config->send_slots, 0, DPR_MAX_MICRO_BATCHES},
        {"--comm-ctas", config->comm_ctas, 0, 64},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        DPR_TRY(check_range(ranges[i].option, ranges[i].value, ranges[i].least, ranges[i].most));
    }
    return DPR_OK;
}

dpr_status_t dpr_train_config_check(const dpr_train_config_t *config)
{
    static const char *const devices[] = {"auto", "host", "cuda", NULL};
    static const char *const comms[] = {"auto", "nccl", "mpi", NULL};
    static const char *const clocks[] = {"auto", "wall", "core", "model", NULL};
    DPR_TRY(check_numbers(config));
    DPR_TRY(check_word("--device", config->device, devices));
    DPR_TRY(check_word("--clock", config->clock, clocks));
    DPR_TRY(check_word("--comm", config->comm, comms));
    if (!(config->timeout_sec >= 0.0 && config->timeout_sec <= 1e6)) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--timeout %g is out of range: give seconds, from 0 (never) to 1000000",
                        config->timeout_sec);
    }
    if (strcmp(config->clock, "model") == 0 && config->cost_model == NULL) {
        return dpr_fail(DPR_ERR_INVALID, "--clock model needs --cost-model: give costs such as "
                                         "F=1e-3,I=1e-3,W=1e-3,wire=1e-4, or a cost file");
    }
    if (config->cost_model != NULL && strcmp(config->clock, "model") != 0 &&
        strcmp(config->clock, "auto") != 0) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--cost-model is only used by --clock model, but --clock %s was given",
                        config->clock);
    }
    if (!(config->auto_budget_sec > 0.0 && config->auto_budget_sec <= 3600.0)) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--auto-budget %g is out of range: give seconds, above 0 and up to 3600",
                        config->auto_budget_sec);
    }
    const bool is_auto = config->schedule != NULL && strcmp(config->schedule, "auto") == 0;
    if (config->activations != 0 && !is_auto) {
        return dpr_fail(DPR_ERR_INVALID, "--activations is only used by --schedule auto");
    }
    if (config->schedule != NULL && config->schedule_file != NULL) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--schedule and --schedule-file were both given: give one of them");
    }
    return dpr_optimizer_config_check(&config->optimizer);
}

static const char *default_schedule(int ranks)
{
    if (ranks == 1) {
        return "1f1b";
    }
    return ranks % 2 == 0 ? "dualpipe" : "dualpipev";
}

/* The least number that the schedule allows from 5P/2 up: enough for the steady state to show. */
static int default_micro_batches(const dpr_schedule_t *schedule, int ranks)
{
    const int from = (5 * ranks + 1) / 2;
    for (int m = from; m <= from + 4 * ranks + 4; m++) {
        if (schedule->allows(ranks, m)) {
            return m;
        }
    }
    return from; /* not allowed: generating says why */
}

/* What a program from a file must be to be trained. */
static dpr_status_t check_file_program(const dpr_train_config_t *config,
                                       const dpr_program_t *program)
{
    DPR_TRY(dpr_program_check(program));
    if (dpr_program_is_forward_only(program)) {
        return dpr_fail(DPR_ERR_PROGRAM,
                        "the program in %s has no backward at all: there is nothing to train",
                        config->schedule_file);
    }
    if (config->micro_batches != 0 && config->micro_batches != program->micro_batches) {
        return dpr_fail(DPR_ERR_INVALID,
                        "--micro-batches %d was given, but the program in %s has %d",
                        config->micro_batches, config->schedule_file, program->micro_batches);
    }
    return DPR_OK;
}

dpr_status_t dpr_train_config_program(const dpr_train_config_t *config, int ranks,
                                      dpr_program_t *program)
{
    if (config->schedule_file != NULL) {
        DPR_TRY(dpr_csv_read(config->schedule_file, program));
        const dpr_status_t status = check_file_program(config, program);
        if (status != DPR_OK) {
            dpr_program_free(program);
        }
        return status;
    }
    const char *name = config->schedule != NULL ? config->schedule : default_schedule(ranks);
    const dpr_schedule_t *schedule = dpr_schedule_find(name);
    int micro_batches = config->micro_batches;
    if (micro_batches == 0 && schedule != NULL) {
        micro_batches = default_micro_batches(schedule, ranks);
    }
    return dpr_schedule_generate(name, ranks, micro_batches, program);
}

int dpr_train_config_blocks(const dpr_train_config_t *config, int ranks, int stages)
{
    if (config->blocks > 0) {
        return config->blocks;
    }
    const int both = 2 * ranks > stages ? 2 * ranks : stages;
    return both > DEFAULT_BLOCKS ? both : DEFAULT_BLOCKS;
}

static const char *or_auto(const char *text)
{
    return text != NULL ? text : "auto";
}

size_t dpr_train_config_format(const dpr_train_config_t *config, char *text, size_t size)
{
    const dpr_optimizer_config_t *o = &config->optimizer;
    const int length = snprintf(
        text, size,
        "--schedule %s\n--schedule-file %s\n--micro-batches %d\n--activations %d\n"
        "--auto-budget %.9g\n--micro-batch-size %d\n"
        "--hidden %d\n--ffn %d\n--blocks %d\n--data %s\n--epochs %d\n--steps %ld\n"
        "--optimizer %s\n--lr %.9g\n--beta1 %.9g\n--beta2 %.9g\n--momentum %.9g\n"
        "--weight-decay %.9g\n--clip %.9g\n--warmup %ld\n--lr-schedule %s\n--min-lr %.9g\n"
        "--seed %llu\n--dtype %s\n--device %s\n--comm %s\n--comm-ctas %d\n--cuda-graph %d\n"
        "--timeout %.9g\n--clock %s\n--cost-model %s\n--calibrate %d\n--refresh %ld\n--verify %d\n"
        "--recv-slots %d\n--recv-ahead %d\n--send-slots %d\n--chaos %llu\n"
        "--memory-limit %llu\n",
        or_auto(config->schedule), or_auto(config->schedule_file), config->micro_batches,
        config->activations, config->auto_budget_sec, config->micro_batch_size, config->hidden,
        config->ffn, config->blocks, config->data, config->epochs, config->steps,
        dpr_optimizer_kind_name(o->kind), (double)o->learning_rate, (double)o->beta1,
        (double)o->beta2, (double)o->momentum, (double)o->weight_decay, (double)o->clip_norm,
        (long)o->warmup_steps, dpr_lr_schedule_name(o->schedule), (double)o->min_lr_fraction,
        (unsigned long long)config->seed, dpr_dtype_name(config->dtype), config->device,
        config->comm, config->comm_ctas, config->cuda_graph, config->timeout_sec, config->clock,
        or_auto(config->cost_model), config->calibrate_steps, config->refresh_steps, config->verify,
        config->recv_slots, config->recv_ahead, config->send_slots,
        (unsigned long long)config->chaos_seed, (unsigned long long)config->memory_limit_bytes);
    return (size_t)length;
}
