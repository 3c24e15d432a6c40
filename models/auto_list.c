/*
 * List scheduling, event by event: the rank whose turn is earliest takes what its rule prefers of
 * the F and I whose input is there. Where there is none, it runs a W that it owes, unless the rule
 * has it wait for an input that is under way and would come before that W ends. A W runs also where
 * an F is held back by the limit alone: it frees a saved set.
 *
 * Rules differ in what goes first (I, F, or in turn), in which of a rank's two lanes, in patience,
 * and in the credit: how many saved sets the lane of the earlier stage may hold. Whatever the rule,
 * the micro-batches of a lane go in order, and a lane of an earlier stage leaves a set for the
 * rank's other lane. So the oldest micro-batch can always go on, and no rule deadlocks.
 */
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "models/auto_impl.h"

typedef enum first { FIRST_I, FIRST_F, FIRST_IN_TURN, FIRST_I_W, FIRSTS } first_t;

typedef enum prefer { LATER_STAGE, EARLIER_STAGE, NEARER_END, OLDER, PREFERS } prefer_t;

typedef struct rule {
    first_t first;
    prefer_t prefer;
    double patience; /* shares of a W that must fit before the next known input */
    double share;    /* of the limit that an early lane may hold on the first stage ... */
    int slope;       /* ... and less by this with every stage */
} rule_t;

static const double shares[] = {1.0, 0.75, 0.5, 0.34};

enum { SHARES = sizeof shares / sizeof shares[0], SLOPES = 3, PATIENCES = 2 };

int auto_list_rules(const auto_problem_t *problem)
{
    const int prefers = problem->held[0][1] < 0 ? 1 : PREFERS;
    return FIRSTS * SHARES * SLOPES * PATIENCES * prefers;
}

static rule_t rule_of(int number)
{
    rule_t rule;
    rule.first = (first_t)(number % FIRSTS);
    number /= FIRSTS;
    rule.share = shares[number % SHARES];
    number /= SHARES;
    rule.slope = number % SLOPES;
    number /= SLOPES;
    rule.patience = (double)(number % PATIENCES);
    rule.prefer = (prefer_t)(number / PATIENCES);
    return rule;
}

typedef struct player {
    int32_t done[AUTO_MAX_LANES][AUTO_KINDS];
    int32_t credit[AUTO_MAX_LANES];
    int32_t at;      /* position in the order */
    int32_t last;    /* kind of its last F or I */
    double now;      /* end of its last op */
    double turn_sec; /* when it decides next; infinite: when an input comes */
} player_t;

typedef struct list {
    const auto_problem_t *problem;
    rule_t rule;
    player_t *players;
    double *ready;   /* [op]: when its input is there, infinite: not known */
    double *channel; /* [2 * lane] */
    int32_t *order;
} list_t;

static int32_t clamp(double value, int32_t least, int32_t most)
{
    return value >= most ? most : value <= least ? least : (int32_t)value;
}

static void set_credit(list_t *list, int32_t rank)
{
    const auto_problem_t *problem = list->problem;
    const int32_t *held = problem->held[rank];
    const int32_t limit = problem->limit[rank];
    for (int i = 0; i < AUTO_MAX_LANES && held[i] >= 0; i++) {
        const int32_t stage = problem->lanes[held[i]].stage;
        int32_t most = held[1] < 0 ? limit : limit - 1;
        double credit = list->rule.share * limit - list->rule.slope * stage;
        if (stage >= problem->ranks) {
            most = limit;
            credit = limit;
        }
        list->players[rank].credit[i] = clamp(credit, 1, most);
    }
}

static void reset(list_t *list)
{
    const auto_problem_t *problem = list->problem;
    for (int32_t op = 0; op < problem->op_count; op++) {
        const auto_lane_t *lane = &problem->lanes[auto_op_lane(problem, op)];
        const int32_t kind = auto_op_kind(op);
        const bool waits =
            (kind == AUTO_F && lane->before >= 0) || (kind == AUTO_I && lane->after >= 0);
        list->ready[op] = waits ? INFINITY : 0.0;
    }
    for (int32_t r = 0; r < problem->ranks; r++) {
        list->players[r].at = problem->begin[r];
        list->players[r].last = AUTO_I;
        set_credit(list, r);
    }
}

static int32_t saved(const player_t *player, int lane)
{
    return player->done[lane][AUTO_F] - player->done[lane][AUTO_W];
}

/* The next op of a kind of one of the rank's lanes, -1 where there is none as yet. */
static int32_t next_op(const list_t *list, int32_t rank, int lane, int32_t kind)
{
    const player_t *player = &list->players[rank];
    const int32_t index = player->done[lane][kind];
    const int32_t of = list->problem->held[rank][lane];
    const int32_t end = kind == AUTO_F ? list->problem->per_lane : player->done[lane][kind - 1];
    return of >= 0 && index < end ? auto_op_of(list->problem, of, index, kind) : -1;
}

static bool may_save(const list_t *list, int32_t rank, int lane)
{
    const player_t *player = &list->players[rank];
    return saved(player, 0) + saved(player, 1) < list->problem->limit[rank] &&
           saved(player, lane) < player->credit[lane];
}

/* Less is better; `index` is the micro-batch's in its lane. */
static double score(const list_t *list, int32_t rank, int lane, int32_t kind, int32_t index)
{
    const rule_t *rule = &list->rule;
    const int32_t stage = list->problem->lanes[list->problem->held[rank][lane]].stage;
    const bool is_f = kind == AUTO_F;
    bool goes_first = is_f == (rule->first == FIRST_F);
    if (rule->first == FIRST_IN_TURN) {
        goes_first = kind != list->players[rank].last;
    }
    double least = 0.0;
    switch (rule->prefer) {
    case LATER_STAGE:
        least = -stage;
        break;
    case EARLIER_STAGE:
        least = stage;
        break;
    case NEARER_END:
        least = is_f ? -stage : stage;
        break;
    default:
        least = index;
        break;
    }
    return least + (goes_first ? 0.0 : 1e9);
}

/* What a rank finds when it is its turn. */
typedef struct choice {
    int32_t op; /* F or I that is ready, -1: none */
    int lane;
    double score;
    double soon;  /* when the next known input comes */
    bool blocked; /* an F is ready that must not save */
    int32_t weight;
    int weight_lane;
} choice_t;

static void consider(const list_t *list, int32_t rank, int lane, int32_t kind, choice_t *choice)
{
    const int32_t op = next_op(list, rank, lane, kind);
    if (op < 0) {
        return;
    }
    const double turn = list->players[rank].turn_sec;
    const double ready = list->ready[op];
    if (kind == AUTO_F && !may_save(list, rank, lane)) {
        choice->blocked = choice->blocked || ready <= turn;
        return;
    }
    if (ready > turn) {
        choice->soon = ready < choice->soon ? ready : choice->soon;
        return;
    }
    const double found = score(list, rank, lane, kind, list->players[rank].done[lane][kind]);
    if (choice->op < 0 || found < choice->score) {
        choice->op = op;
        choice->lane = lane;
        choice->score = found;
    }
}

static choice_t look(const list_t *list, int32_t rank)
{
    choice_t choice = {.op = -1, .soon = INFINITY, .weight = -1};
    int32_t oldest = INT32_MAX;
    for (int lane = 0; lane < AUTO_MAX_LANES; lane++) {
        consider(list, rank, lane, AUTO_I, &choice);
        consider(list, rank, lane, AUTO_F, &choice);
        const int32_t weight = next_op(list, rank, lane, AUTO_W);
        const int32_t index = list->players[rank].done[lane][AUTO_W];
        if (weight >= 0 && index < oldest) {
            oldest = index;
            choice.weight = weight;
            choice.weight_lane = lane;
        }
    }
    return choice;
}

static void run(list_t *list, int32_t rank, int lane, int32_t op)
{
    const auto_problem_t *problem = list->problem;
    const auto_op_t *info = &problem->ops[op];
    const int32_t kind = auto_op_kind(op);
    player_t *player = &list->players[rank];
    player->now = player->turn_sec + info->cost;
    player->turn_sec = player->now;
    player->done[lane][kind]++;
    player->last = kind == AUTO_W ? player->last : kind;
    list->order[player->at++] = op;
    if (info->consumer < 0) {
        return;
    }
    double there = player->now;
    player_t *peer = &list->players[auto_op_rank(problem, info->consumer)];
    if (info->channel >= 0) {
        double *channel = &list->channel[info->channel];
        *channel = fmax(*channel, there) + info->wire;
        there = *channel;
    }
    list->ready[info->consumer] = there;
    peer->turn_sec = fmin(peer->turn_sec, fmax(there, peer->now));
}

static void take_turn(list_t *list, int32_t rank)
{
    player_t *player = &list->players[rank];
    const choice_t choice = look(list, rank);
    const bool weight_first = list->rule.first == FIRST_I_W && choice.op >= 0 &&
                              auto_op_kind(choice.op) == AUTO_F && choice.weight >= 0;
    if (choice.op >= 0 && !weight_first) {
        run(list, rank, choice.lane, choice.op);
        return;
    }
    const double fits =
        choice.weight < 0
            ? INFINITY
            : player->turn_sec + list->rule.patience * list->problem->ops[choice.weight].cost;
    if (choice.weight >= 0 && (choice.blocked || weight_first || fits <= choice.soon)) {
        run(list, rank, choice.weight_lane, choice.weight);
        return;
    }
    player->turn_sec = choice.soon;
}

static void play(list_t *list)
{
    const auto_problem_t *problem = list->problem;
    for (;;) {
        int32_t rank = 0;
        for (int32_t r = 1; r < problem->ranks; r++) {
            if (list->players[r].turn_sec < list->players[rank].turn_sec) {
                rank = r;
            }
        }
        if (isinf(list->players[rank].turn_sec)) {
            return;
        }
        take_turn(list, rank);
    }
}

dpr_status_t auto_list_schedule(const auto_problem_t *problem, int rule, int32_t *order)
{
    list_t list = {.problem = problem, .rule = rule_of(rule), .order = order};
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc((size_t)problem->ranks, sizeof *list.players, &list.players), free_all);
    DPR_TRY_GOTO(dpr_calloc((size_t)problem->op_count, sizeof *list.ready, &list.ready), free_all);
    DPR_TRY_GOTO(dpr_calloc(2 * (size_t)problem->lane_count, sizeof *list.channel, &list.channel),
                 free_all);
    reset(&list);
    play(&list);
free_all:
    free(list.channel);
    free(list.ready);
    free(list.players);
    return status;
}
