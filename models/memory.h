/*
 * Memory: what every rank holds while it trains, in bytes.
 *
 *     model (MLP, transformer, or plain numbers) --> dpr_stage_memory_t, one a stage --+
 *                                                                                      +--> ranks
 *     schedule --> op graph: which stages a rank holds, slots of every buffer pool ----+
 *
 * The graph's slots come from exact liveness, so the peaks are those of the schedule, not an
 * estimate: what an arena for this graph takes. Not counted: samples and labels, the padding of
 * optimizer states, the libraries' own workspaces, the allocator's slack.
 */
#ifndef DPR_MODELS_MEMORY_H
#define DPR_MODELS_MEMORY_H

#include "base/dtype.h"
#include "schedule/graph.h"

/* What one stage needs; bytes are of one micro-batch, and as the buffers of schedule/graph.h. */
typedef struct dpr_stage_memory {
    uint64_t parameters;       /* how many numbers */
    uint64_t activation_bytes; /* one ACT or GRAD buffer: what a message carries */
    uint64_t saved_bytes;      /* SAVED: what F keeps for the backward */
    uint64_t wstate_bytes;     /* WSTATE: what I leaves for W */
} dpr_stage_memory_t;

typedef enum dpr_state_kind {
    DPR_STATE_ADAMW, /* two moments a parameter */
    DPR_STATE_SGD,   /* one momentum a parameter */
} dpr_state_kind_t;

/*
 * How numbers are kept. fp32 and tf32: parameters, gradients and states 4 bytes each. bf16:
 * parameters and gradients 2, and a 4-byte master copy beside the 4-byte states, which makes 16
 * bytes a parameter with AdamW (Rajbhandari et al. 2020, "ZeRO", 3.1).
 */
typedef struct dpr_memory_format {
    uint32_t parameter_bytes;
    uint32_t gradient_bytes;
    uint32_t optimizer_bytes; /* states and master copy, of one parameter */
    uint32_t slot_alignment;  /* slots of a pool start at multiples of it; 1: packed */
} dpr_memory_format_t;

/* The runtime's own alignment of slots, which makes the buffers' sum equal to its arena. */
#define DPR_MEMORY_SLOT_ALIGNMENT 256

dpr_memory_format_t dpr_memory_format(dpr_dtype_t dtype, dpr_state_kind_t state);

/* "adamw", "sgd". Parsing errors: DPR_ERR_INVALID, logged with the choices. */
const char *dpr_state_kind_name(dpr_state_kind_t state);
dpr_status_t dpr_state_kind_parse(const char *text, dpr_state_kind_t *state);

/* What one rank holds at its peak. Every buffer pool is at its peak size for the whole step, so the
 * total is their plain sum. */
typedef struct dpr_rank_memory {
    int32_t stages;           /* stages of which the rank keeps the parameters */
    int32_t peak_activations; /* SAVED sets at once; a set is of one stage and micro-batch */
    uint64_t parameters;      /* how many numbers */
    uint64_t parameter_bytes;
    uint64_t gradient_bytes;
    uint64_t optimizer_bytes;
    uint64_t saved_bytes;    /* activations kept for the backward */
    uint64_t wstate_bytes;   /* kept from I to W */
    uint64_t handover_bytes; /* activations and gradients passed between stages of the rank */
    uint64_t receive_bytes;  /* receive buffers of its channels */
    uint64_t send_bytes;     /* send buffers of its channels */
    uint64_t total_bytes;
} dpr_rank_memory_t;

/*
 * Fills ranks[0 .. P-1] from stages[0 .. S-1]. A slot of a rank's SAVED or WSTATE pool is as large
 * as the largest of its stages needs, a slot of an ACT or GRAD pool as large as the largest of all.
 * Errors: DPR_ERR_INVALID where a sum exceeds 2^63 - 1 bytes, logged; DPR_ERR_MEMORY. What ranks[]
 * holds after an error is not defined.
 */
dpr_status_t dpr_memory_count(const dpr_graph_t *graph, const dpr_stage_memory_t *stages,
                              const dpr_memory_format_t *format, dpr_rank_memory_t *ranks);

/* The rank that holds most; the lowest where several do. */
int dpr_memory_largest(const dpr_rank_memory_t *ranks, int count);

/*
 * The MLP of the runtime (kernels/stage.h): blocks x + W2 gelu(W1 layernorm(x) + b1) + b2, h =
 * hidden, n = ffn, r rows (micro-batch size), e bytes a number, blocks divided as there: stage s
 * has blocks [s L / S, (s + 1) L / S). With up() rounding to 64 bytes and `inside` the boundaries
 * that are neither received nor sent, (blocks of the stage) - 1 + (first stage) + (last stage):
 *
 *     parameters   blocks (2 h n + 3 h + n)  + input h + h (first)  + h classes + classes (last)
 *     activation   r h e
 *     saved        inside up(r h e) + blocks (up(r h e) + 2 up(r n e) + 2 up(4 r))
 *                  + up(r classes e) (last)
 *     wstate       inside up(r h e) + blocks (up(r n e) + up(r h e))
 *
 * tests/kernels holds them equal to dpr_stage_shape for fp32.
 */
typedef struct dpr_mlp_model {
    int input;
    int hidden;
    int ffn;
    int classes;
    int blocks; /* of all stages */
    int micro_batch_size;
    dpr_dtype_t dtype;
} dpr_mlp_model_t;

/* Fills stages[0 .. stages-1]. Errors: DPR_ERR_INVALID, logged: a size below 1, fewer blocks than
 * stages, or a sum above 2^63 - 1. */
dpr_status_t dpr_mlp_memory(const dpr_mlp_model_t *model, int stages, dpr_stage_memory_t *stage);

/*
 * A transformer of L equal layers, cut into equal stages (by fractions of a layer where they do not
 * divide; embeddings are not modelled). With s sequence, b micro-batch size, h hidden, a heads, e
 * bytes a number:
 *
 *     activation   s b h e
 *     saved        a layer: s b h (16 e + 2) + a s^2 b (2 e + 1), which for e = 2 is the published
 *                  s b h (34 + 5 a s / h) (Korthikanti et al. 2022, arXiv 2205.05198, eq. 2, no
 *                  tensor parallelism; 16 tensors of s b h and two one-byte dropout masks, two of
 *                  a s^2 b and one such mask). Without the second term where the attention's inner
 *                  part is recomputed (section 5) or fused
 *     wstate       a layer: 9 s b h e, our own count: the gradients of the outputs of the four
 *                  products whose W is put off (3 h for QKV, h, 4 h, h)
 */
typedef struct dpr_transformer_model {
    uint64_t parameters; /* of all stages, one copy of each */
    double layers;       /* of all stages; not above 1e6 */
    int hidden;
    int heads;
    int sequence;
    int micro_batch_size;
    dpr_dtype_t dtype;
    bool keeps_attention; /* the a s^2 b term is kept, neither recomputed nor fused */
} dpr_transformer_model_t;

/* One stage's share; parameters and bytes are rounded up. Errors: DPR_ERR_INVALID, logged: a size
 * below 1 or above its limit, or a result above 2^53. */
dpr_status_t dpr_transformer_memory(const dpr_transformer_model_t *model, int stages,
                                    dpr_stage_memory_t *stage);

/* Layers of 12 h^2 + 13 h parameters (Narayanan et al. 2021, eq. 2, without embeddings) that make
 * up `parameters`, rounded to a whole number, at least 1. */
double dpr_transformer_layers(uint64_t parameters, int hidden);

#endif
