/*
 * Program: a pipeline schedule as plain data. For every rank, an ordered list of compute actions.
 *
 *     rank 0:  0F0  0F1  (0F2;0B0)OVERLAP_F_B  ...
 *     rank 1:  1F0  1B0  ...
 *
 * Nothing else is stored: where a stage lives follows from which rank's list names it, so a stage
 * may live on two ranks (DualPipe), and any placement a file can express can be run. What travels
 * between ranks follows, too; only a lowered program (one that a file spells out with its sends and
 * receives) also says in which order it is posted.
 *
 * Terms: P ranks, S stages, M micro-batches a step. Of one (stage, micro-batch): F forward, B full
 * backward, I backward for the input, W backward for the weights (B = I then W). FB is a forward
 * and a backward of different micro-batches, overlapped in one action.
 */
#ifndef DPR_SCHEDULE_PROGRAM_H
#define DPR_SCHEDULE_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Largest P, S and M a program may have; keeps every node number in 31 bits. */
#define DPR_MAX_RANKS         4096
#define DPR_MAX_STAGES        8192
#define DPR_MAX_MICRO_BATCHES 65536
#define DPR_MAX_CELLS         (1 << 26) /* S * M */

typedef enum dpr_action_kind {
    DPR_ACTION_F,
    DPR_ACTION_B,
    DPR_ACTION_I,
    DPR_ACTION_W,
    DPR_ACTION_FB,
} dpr_action_kind_t;

enum { DPR_ACTION_KINDS = 5 };

/* One compute action. For FB, (stage, micro_batch) is the forward's and (b_stage, b_micro_batch)
 * the backward's; for every other kind the latter are -1. */
typedef struct dpr_action {
    dpr_action_kind_t kind;
    int32_t stage;
    int32_t micro_batch;
    int32_t b_stage;
    int32_t b_micro_batch;
} dpr_action_t;

/* The two ends of the two kinds of transfers, as a lowered program posts them. */
typedef enum dpr_post_kind {
    DPR_POST_SEND_F, /* the activation that F of (stage, micro-batch) makes */
    DPR_POST_RECV_F, /* the activation that F of (stage, micro-batch) takes */
    DPR_POST_SEND_B, /* the gradient that the backward of (stage, micro-batch) makes */
    DPR_POST_RECV_B, /* the gradient that the backward of (stage, micro-batch) takes */
} dpr_post_kind_t;

enum { DPR_POST_KINDS = 4 };

/* One posted send or receive; the stage is always the posting rank's own. */
typedef struct dpr_post {
    int32_t rank;
    int32_t kind; /* dpr_post_kind_t */
    int32_t stage;
    int32_t micro_batch;
} dpr_post_t;

/* Rank r's actions are actions[begin[r]] .. actions[begin[r + 1] - 1]. Owned by the program. */
typedef struct dpr_program {
    char name[32]; /* schedule name, or "file" */
    int32_t ranks;
    int32_t stages;
    int32_t micro_batches;
    int32_t building; /* rank that dpr_program_append last wrote to */
    size_t *begin;    /* ranks + 1 */
    dpr_action_t *actions;
    size_t capacity;
    /* A lowered program's sends and receives, each rank's in the order posted; else none, and every
     * channel carries its messages in the order in which they are produced. */
    dpr_post_t *posts;
    size_t post_count;
    size_t post_capacity;
} dpr_program_t;

/*
 * Starts an empty program; release with dpr_program_free. Errors: DPR_ERR_INVALID where P, S or M
 * is below 1 or above the maxima; DPR_ERR_MEMORY.
 */
dpr_status_t dpr_program_init(dpr_program_t *program, const char *name, int ranks, int stages,
                              int micro_batches);

/* Releases what the program owns; a zeroed program is allowed. */
void dpr_program_free(dpr_program_t *program);

/*
 * Appends an action to `rank`'s list. Ranks are filled in ascending order: appending to a rank
 * below the last one written is an invariant violation. Errors: DPR_ERR_MEMORY.
 */
dpr_status_t dpr_program_append(dpr_program_t *program, int rank, dpr_action_t action);

/* Appends to what `post.rank` posts, after what it has posted so far; ranks may come in any order.
 * Errors: DPR_ERR_MEMORY. Whether the posts are those that the actions need is for dpr_graph_build
 * (and, with the place in the file, for dpr_csv_parse) to say. */
dpr_status_t dpr_program_append_post(dpr_program_t *program, dpr_post_t post);

/* Closes the last rank's list (and any rank left empty). Call once, after the last append. */
void dpr_program_finish(dpr_program_t *program);

/* Actions of one kind, for generators: F, B, I or W of (stage, micro-batch); FB of two. */
dpr_action_t dpr_action(dpr_action_kind_t kind, int stage, int micro_batch);
dpr_action_t dpr_action_fb(int f_stage, int f_micro_batch, int b_stage, int b_micro_batch);

/*
 * Splits an action into what it does to one (stage, micro-batch) each: FB into its F and its B, any
 * other kind into itself. Returns how many of `halves` were set, 1 or 2.
 */
int dpr_action_halves(dpr_action_t action, dpr_action_t halves[2]);

/* Number of actions of all ranks. */
size_t dpr_program_size(const dpr_program_t *program);

/* True where P, S, M, every rank's actions and all posts are the same (names are not compared). */
bool dpr_program_equal(const dpr_program_t *a, const dpr_program_t *b);

/*
 * Checks that the program is complete as data flow: every (stage, micro-batch) has exactly one F
 * and either exactly one backward (B, or I and W, counting the halves of FB) or, where no backward
 * stands anywhere in the program, none; all of one cell on one rank, F before B or I, I before W.
 * Whether its ranks can deadlock is dpr_graph_verify's question.
 * Errors: DPR_ERR_PROGRAM, logged with the rank, the position and the action, and what was
 * expected.
 */
dpr_status_t dpr_program_check(const dpr_program_t *program);

/* True where the program holds no backward at all (an evaluation). */
bool dpr_program_is_forward_only(const dpr_program_t *program);

/* The forwards of `program` alone, and the posts of their activations, in the same order on the
 * same ranks: what an evaluation runs. */
dpr_status_t dpr_program_forward_only(const dpr_program_t *program, dpr_program_t *out);

/*
 * holders[s * 2 + i] is the i-th rank (ascending) that holds stage s, -1 where there is none; a
 * stage lives on at most two ranks. `holders` has room for 2 * S. Errors: DPR_ERR_PROGRAM where a
 * stage is on more ranks than two.
 */
dpr_status_t dpr_program_holders(const dpr_program_t *program, int32_t *holders);

/*
 * Writes an action as the CSV spells it ("2F0", "(0F7;7B3)OVERLAP_F_B") into `text` (48 bytes are
 * enough) and returns `text`.
 */
char *dpr_action_format(dpr_action_t action, char *text, size_t size);

/* The same for a send or receive ("2SEND_F0"); 32 bytes are enough. */
char *dpr_post_format(dpr_post_t post, char *text, size_t size);

/* "SEND_F", "RECV_F", "SEND_B", "RECV_B". */
const char *dpr_post_kind_name(dpr_post_kind_t kind);

#endif
