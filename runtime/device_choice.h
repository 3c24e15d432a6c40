/*
 * Which device a run computes on and what carries its transfers, decided by all ranks together from
 * what was asked for and what each of them finds.
 *
 *     --device   --comm       ranks of a node     device of a rank      transfers
 *     host       auto, mpi    any                 host                  MPI
 *     cuda       auto, nccl   at most its GPUs    a GPU of its own      NCCL
 *     cuda       mpi          any                 node rank mod GPUs    MPI, through pinned memory
 *     auto       any          cuda where every rank can have a GPU of its own, else host
 *
 * GPUs are known by their PCI addresses, so it makes no difference whether every rank sees all GPUs
 * of its node, or a launcher shows each only its own (CUDA_VISIBLE_DEVICES, --gpus-per-task).
 */
#ifndef DPR_RUNTIME_DEVICE_CHOICE_H
#define DPR_RUNTIME_DEVICE_CHOICE_H

#include "comm/comm.h"
#include "runtime/config.h"

/* CTAs of one NCCL communicator where --comm-ctas is not given: a channel carries one message at a
 * time beside the kernels, which are to keep nearly all multiprocessors. */
#define DPR_DEFAULT_COMM_CTAS DPR_COMM_NCCL_CTAS

enum { DPR_NODE_GPUS_MAX = 32, DPR_PCI_BYTES = 20 };

/* What one rank finds. */
typedef struct dpr_rank_gpus {
    int node_rank;
    int node_size;
    uint64_t node;     /* the same number on ranks of one node, and only there */
    int gpus;          /* that it can use: at most DPR_NODE_GPUS_MAX are looked at */
    char missing[160]; /* where none: why, in one line */
    char pci[DPR_NODE_GPUS_MAX][DPR_PCI_BYTES]; /* of each; "" where unknown: known by its number */
} dpr_rank_gpus_t;

typedef struct dpr_device_choice {
    bool is_cuda;
    bool is_nccl;
    int ordinal;      /* cuda: this rank's GPU, of those that it sees */
    int comm_ctas;    /* nccl: at least 1 */
    bool fell_back;   /* auto found no GPU for each rank */
    char reason[256]; /* for a person: why this device */
} dpr_device_choice_t;

/*
 * The decision for rank `rank`: the same device and transfers on every rank, since it depends on
 * what all of them find, ranks[count]. Errors, logged with the way out: DPR_ERR_UNSUPPORTED (no GPU
 * where one is needed), DPR_ERR_INVALID (options that do not go together).
 */
dpr_status_t dpr_device_decide(const dpr_train_config_t *config, const dpr_rank_gpus_t *ranks,
                               int count, int rank, dpr_device_choice_t *choice);

/*
 * Compares the ranks' options, which must be the same, asks each rank for its GPUs and decides;
 * collective over `bootstrap`. Where auto falls back to the host, rank 0 logs one line that says
 * why. Errors: those above, and DPR_ERR_INVALID, naming the first option that differs.
 */
dpr_status_t dpr_device_choose(const dpr_train_config_t *config, dpr_comm_t *bootstrap,
                               dpr_device_choice_t *choice);

#endif
