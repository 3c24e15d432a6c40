/* Chooses the device and the transport of a run: options compared, GPUs counted, one decision. */
#include "runtime/device_choice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "runtime/gpu_shares.h"

enum { CONFIG_TEXT_BYTES = 4096 };

/* ---- Options: the same on all ranks ---- */

static size_t line_length(const char *text)
{
    return strcspn(text, "\n");
}

/* Names the first option in which two ranks differ. */
static dpr_status_t fail_with_difference(const char *zero, const char *mine, int rank)
{
    while (*zero != '\0' && *mine != '\0' && line_length(zero) == line_length(mine) &&
           memcmp(zero, mine, line_length(zero)) == 0) {
        zero += line_length(zero) + (zero[line_length(zero)] == '\n');
        mine += line_length(mine) + (mine[line_length(mine)] == '\n');
    }
    return dpr_fail(DPR_ERR_INVALID,
                    "ranks were started with different options: rank 0 has '%.*s', rank %d has "
                    "'%.*s'; start all ranks with the same command line",
                    (int)line_length(zero), zero, rank, (int)line_length(mine), mine);
}

static dpr_status_t compare_config(const dpr_train_config_t *config, dpr_comm_t *comm)
{
    char *all;
    char mine[CONFIG_TEXT_BYTES] = "";
    if (dpr_train_config_format(config, mine, sizeof mine) >= sizeof mine) {
        return dpr_fail(DPR_ERR_INVALID, "the options are longer than %d characters together",
                        CONFIG_TEXT_BYTES);
    }
    DPR_TRY(dpr_calloc((size_t)dpr_comm_size(comm), sizeof mine, &all));
    dpr_status_t status = dpr_comm_allgather(comm, mine, sizeof mine, all);
    if (status == DPR_OK && memcmp(all, mine, sizeof mine) != 0) {
        status = fail_with_difference(all, mine, dpr_comm_rank(comm));
    }
    free(all);
    return status;
}

/* ---- The decision ---- */

static bool is(const char *word, const char *other)
{
    return strcmp(word, other) == 0;
}

/* The option, if one was given, that only the host device has. */
static bool needs_host(const dpr_train_config_t *config, char *option, size_t size)
{
    if (is(config->clock, "core") || is(config->clock, "model")) {
        snprintf(option, size, "--clock %s", config->clock);
        return true;
    }
    if (config->chaos_seed != 0) {
        snprintf(option, size, "--chaos %llu", (unsigned long long)config->chaos_seed);
        return true;
    }
    return false;
}

/* The first rank with no GPU at all, or -1. */
static int find_without_gpu(const dpr_rank_gpus_t *ranks, int count)
{
    for (int r = 0; r < count; r++) {
        if (ranks[r].gpus < 1) {
            return r;
        }
    }
    return -1;
}

/* Of the ranks' GPUs what the decision needs: ordinal[count] where each has one of its own, else
 * who has none and why. */
typedef struct shares {
    int *ordinal;
    int without;
    char shortage[160];
} shares_t;

static void decide_auto(const dpr_train_config_t *config, const dpr_rank_gpus_t *ranks, int count,
                        const shares_t *shares, dpr_device_choice_t *choice)
{
    char option[64];
    const int without = find_without_gpu(ranks, count);
    char *reason = choice->reason;
    const size_t size = sizeof choice->reason;
    if (needs_host(config, option, sizeof option)) {
        snprintf(reason, size, "auto: %s is for the host device", option);
    } else if (without >= 0) {
        choice->fell_back = true;
        snprintf(reason, size, "auto: rank %d has no GPU: %s", without, ranks[without].missing);
    } else if (shares->without >= 0) {
        choice->fell_back = true;
        snprintf(reason, size, "auto: fewer GPUs than ranks: %s", shares->shortage);
    } else {
        choice->is_cuda = true;
        snprintf(reason, size, "auto: every rank has a GPU of its own");
    }
}

static dpr_status_t decide_cuda(const dpr_train_config_t *config, const dpr_rank_gpus_t *ranks,
                                int count, dpr_device_choice_t *choice)
{
    char option[64];
    const int without = find_without_gpu(ranks, count);
    if (needs_host(config, option, sizeof option)) {
        return dpr_fail(DPR_ERR_INVALID,
                        "%s is for the host device, but --device cuda was given: leave it out, or "
                        "give --device host",
                        option);
    }
    if (without >= 0) {
        return dpr_fail(DPR_ERR_UNSUPPORTED,
                        "--device cuda: rank %d has no GPU: %s; use --device host", without,
                        ranks[without].missing);
    }
    choice->is_cuda = true;
    snprintf(choice->reason, sizeof choice->reason, "as asked");
    return DPR_OK;
}

/* What the host device does not have. `reason` says why it was taken. */
static dpr_status_t check_host(const dpr_train_config_t *config, const char *reason)
{
    if (config->dtype != DPR_DTYPE_FP32) {
        return dpr_fail(DPR_ERR_UNSUPPORTED,
                        "--dtype %s needs --device cuda, but the device is the host (%s): give "
                        "--dtype fp32, or a GPU for each rank",
                        dpr_dtype_name(config->dtype), reason);
    }
    if (is(config->comm, "nccl")) {
        return dpr_fail(DPR_ERR_UNSUPPORTED,
                        "--comm nccl needs --device cuda, but the device is the host (%s): give "
                        "--comm mpi, or a GPU for each rank",
                        reason);
    }
    if (config->cuda_graph) {
        return dpr_fail(DPR_ERR_UNSUPPORTED,
                        "--cuda-graph needs --device cuda, but the device is the host (%s): leave "
                        "it out, or give a GPU for each rank",
                        reason);
    }
    return DPR_OK;
}

static dpr_status_t check_nccl(const dpr_rank_gpus_t *ranks, int count, const shares_t *shares)
{
    if (shares->without < 0) {
        return DPR_OK;
    }
    return dpr_fail(DPR_ERR_UNSUPPORTED,
                    "--comm nccl needs a GPU for each rank, but %s: start at most %d ranks on that "
                    "node, let every rank see all of its node's GPUs or one of its own, or give "
                    "--comm mpi, with which ranks share a GPU",
                    shares->shortage, dpr_gpus_on_node(ranks, count, shares->without));
}

static dpr_status_t check_mpi(const dpr_train_config_t *config, int count)
{
    if (config->cuda_graph && count > 1) { /* one rank has no transfers */
        return dpr_fail(DPR_ERR_UNSUPPORTED,
                        "--cuda-graph cannot record transfers by MPI, which the host makes: give "
                        "--comm nccl, or leave --cuda-graph out");
    }
    return DPR_OK;
}

static dpr_status_t decide_transport(const dpr_train_config_t *config, const dpr_rank_gpus_t *ranks,
                                     int count, int rank, const shares_t *shares,
                                     dpr_device_choice_t *choice)
{
    choice->is_nccl = choice->is_cuda && !is(config->comm, "mpi");
    if (!choice->is_cuda) {
        DPR_TRY(check_host(config, choice->reason));
    } else if (choice->is_nccl) {
        DPR_TRY(check_nccl(ranks, count, shares));
        choice->ordinal = shares->ordinal[rank];
        choice->comm_ctas = config->comm_ctas > 0 ? config->comm_ctas : DPR_DEFAULT_COMM_CTAS;
    } else {
        DPR_TRY(check_mpi(config, count));
        choice->ordinal =
            shares->without < 0 ? shares->ordinal[rank] : ranks[rank].node_rank % ranks[rank].gpus;
    }
    if (config->comm_ctas > 0 && !choice->is_nccl) {
        return dpr_fail(
            DPR_ERR_INVALID,
            "--comm-ctas %d is only used by --comm nccl, but transfers go by MPI: leave "
            "it out",
            config->comm_ctas);
    }
    return DPR_OK;
}

static dpr_status_t decide(const dpr_train_config_t *config, const dpr_rank_gpus_t *ranks,
                           int count, int rank, const shares_t *shares, dpr_device_choice_t *out)
{
    dpr_device_choice_t choice = {0};
    if (is(config->device, "auto")) {
        decide_auto(config, ranks, count, shares, &choice);
    } else if (is(config->device, "cuda")) {
        DPR_TRY(decide_cuda(config, ranks, count, &choice));
    } else {
        snprintf(choice.reason, sizeof choice.reason, "as asked");
    }
    DPR_TRY(decide_transport(config, ranks, count, rank, shares, &choice));
    *out = choice;
    return DPR_OK;
}

dpr_status_t dpr_device_decide(const dpr_train_config_t *config, const dpr_rank_gpus_t *ranks,
                               int count, int rank, dpr_device_choice_t *choice)
{
    dpr_status_t status;
    shares_t shares = {.without = -1};
    DPR_TRY(dpr_calloc((size_t)count, sizeof *shares.ordinal, &shares.ordinal));
    DPR_TRY_GOTO(dpr_gpus_share_out(ranks, count, shares.ordinal, &shares.without), free_shares);
    if (shares.without >= 0) {
        dpr_gpus_describe_shortage(ranks, count, shares.without, shares.shortage,
                                   sizeof shares.shortage);
    }
    DPR_TRY_GOTO(decide(config, ranks, count, rank, &shares, choice), free_shares);

free_shares:
    free(shares.ordinal);
    return status;
}

/* ---- All ranks together ---- */

/* A number for this node: of the running kernel, which containers with names of their own share,
 * or where it has none, of the host's name. (FNV-1a, Fowler, Noll and Vo.) */
static uint64_t node_number(void)
{
    char text[128] = "";
    uint64_t hash = 14695981039346656037ULL;
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (file == NULL || fgets(text, sizeof text, file) == NULL) {
        (void)gethostname(text, sizeof text - 1);
    }
    if (file != NULL) {
        fclose(file);
    }
    for (const char *c = text; *c != '\0'; c++) {
        hash = (hash ^ (unsigned char)*c) * 1099511628211ULL;
    }
    return hash;
}

/* A run that is for the host does not wake the driver up. */
static dpr_rank_gpus_t find_gpus(const dpr_train_config_t *config, const dpr_comm_t *comm)
{
    dpr_rank_gpus_t mine = {.node_rank = dpr_comm_node_rank(comm),
                            .node_size = dpr_comm_node_size(comm),
                            .node = node_number()};
    char option[64];
    const bool on_host = is(config->device, "auto") && needs_host(config, option, sizeof option);
    if (!on_host && !is(config->device, "host")) {
        mine.gpus = dpr_cuda_device_count(mine.missing, sizeof mine.missing);
    }
    for (int i = 0; i < mine.gpus && i < DPR_NODE_GPUS_MAX; i++) {
        dpr_cuda_device_pci(i, mine.pci[i], sizeof mine.pci[i]);
    }
    return mine;
}

static dpr_status_t gather_and_decide(const dpr_train_config_t *config, dpr_comm_t *comm,
                                      dpr_device_choice_t *choice)
{
    const int count = dpr_comm_size(comm);
    const dpr_rank_gpus_t mine = find_gpus(config, comm);
    dpr_rank_gpus_t *all;
    DPR_TRY(dpr_calloc((size_t)count, sizeof *all, &all));
    dpr_status_t status = dpr_comm_allgather(comm, &mine, sizeof mine, all);
    if (status == DPR_OK) {
        status = dpr_device_decide(config, all, count, dpr_comm_rank(comm), choice);
    }
    free(all);
    return status;
}

dpr_status_t dpr_device_choose(const dpr_train_config_t *config, dpr_comm_t *bootstrap,
                               dpr_device_choice_t *out)
{
    dpr_device_choice_t choice;
    DPR_TRY(dpr_comm_agree(bootstrap, compare_config(config, bootstrap), NULL));
    DPR_TRY(dpr_comm_agree(bootstrap, gather_and_decide(config, bootstrap, &choice), NULL));
    if (choice.fell_back && dpr_comm_rank(bootstrap) == 0) {
        dpr_log(DPR_LOG_INFO, "computing on the host (%s)", choice.reason);
    }
    *out = choice;
    return DPR_OK;
}
