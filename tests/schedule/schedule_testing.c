/* See schedule_testing.h. */
#include "tests/schedule/schedule_testing.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "schedule/csv.h"

int dice_roll(dice_t *dice, int sides)
{
    return (int)(dpr_random_bits(dice->seed, 0, dice->count++) % (uint64_t)sides);
}

double dice_real(dice_t *dice, double low, double high)
{
    return low + (high - low) * dpr_random_uniform(dice->seed, 1, dice->count++);
}

dpr_program_t make_program(const char *schedule, int ranks, int micro_batches)
{
    dpr_program_t program;
    assert_int_equal(dpr_schedule_generate(schedule, ranks, micro_batches, &program), DPR_OK);
    return program;
}

dpr_graph_t *make_graph(const dpr_program_t *program)
{
    dpr_graph_t *graph = NULL;
    assert_int_equal(dpr_graph_create(program, NULL, &graph), DPR_OK);
    return graph;
}

dpr_program_t parse_program(const char *text)
{
    dpr_program_t program;
    assert_int_equal(dpr_csv_parse(text, strlen(text), "test", &program), DPR_OK);
    return program;
}

void assert_contains_at(const char *text, const char *part, const char *file, int line)
{
    if (strstr(text, part) == NULL) {
        print_error("expected to find\n    %s\nin\n    %s\n", part, text);
        _fail(file, line);
    }
}

/* The state of a program being played in one global order. */
typedef struct game {
    dpr_program_t program;
    bool forward_only;
    int *rank_of;  /* [stage][micro-batch] */
    uint8_t *done; /* [stage][micro-batch], a bit for each kind of action */
    dpr_action_t *ranks_actions;
    int *counts; /* [rank] */
    int most;    /* actions of a rank */
} game_t;

static int cell(const game_t *game, int stage, int micro_batch)
{
    return stage * game->program.micro_batches + micro_batch;
}

static bool is_done(const game_t *game, int stage, int micro_batch, dpr_action_kind_t kind)
{
    return (game->done[cell(game, stage, micro_batch)] >> kind) & 1;
}

static bool has_gradient(const game_t *game, int stage, int micro_batch)
{
    return is_done(game, stage, micro_batch, DPR_ACTION_B) ||
           is_done(game, stage, micro_batch, DPR_ACTION_I);
}

static bool can_run(const game_t *game, int s, int m, dpr_action_kind_t kind)
{
    const bool forward = is_done(game, s, m, DPR_ACTION_F);
    switch (kind) {
    case DPR_ACTION_F:
        return !forward && (s == 0 || is_done(game, s - 1, m, DPR_ACTION_F));
    case DPR_ACTION_B:
    case DPR_ACTION_I:
        return !game->forward_only && forward && !has_gradient(game, s, m) &&
               (s + 1 == game->program.stages || has_gradient(game, s + 1, m));
    default:
        return is_done(game, s, m, DPR_ACTION_I) && !is_done(game, s, m, DPR_ACTION_W);
    }
}

static void run(game_t *game, int rank, dpr_action_t action)
{
    dpr_action_t halves[2];
    const int count = dpr_action_halves(action, halves);
    for (int i = 0; i < count; i++) {
        game->done[cell(game, halves[i].stage, halves[i].micro_batch)] |=
            (uint8_t)(1u << halves[i].kind);
    }
    game->ranks_actions[rank * game->most + game->counts[rank]++] = action;
}

/* A random action of those that `rank` could run now; false where it has none. */
static bool pick_action(const game_t *game, dice_t *dice, int rank, dpr_action_t *picked)
{
    int seen = 0;
    for (int s = 0; s < game->program.stages; s++) {
        for (int m = 0; m < game->program.micro_batches; m++) {
            for (int k = DPR_ACTION_F; k <= DPR_ACTION_W; k++) {
                if (game->rank_of[cell(game, s, m)] == rank &&
                    can_run(game, s, m, (dpr_action_kind_t)k) && dice_roll(dice, ++seen) == 0) {
                    *picked = dpr_action((dpr_action_kind_t)k, s, m);
                }
            }
        }
    }
    return seen > 0;
}

static bool play_turn(game_t *game, dice_t *dice, int rank)
{
    dpr_action_t action;
    if (!pick_action(game, dice, rank, &action)) {
        return false;
    }
    dpr_action_t other;
    if (action.kind == DPR_ACTION_F && pick_action(game, dice, rank, &other) &&
        other.kind == DPR_ACTION_B && other.micro_batch != action.micro_batch) {
        action = dpr_action_fb(action.stage, action.micro_batch, other.stage, other.micro_batch);
    }
    run(game, rank, action);
    return true;
}

/* Each stage on one rank, or on two between which its micro-batches are divided. */
static void place_stages(game_t *game, dice_t *dice)
{
    for (int s = 0; s < game->program.stages; s++) {
        const int first = dice_roll(dice, game->program.ranks);
        const int second = dice_roll(dice, 3) == 0 ? dice_roll(dice, game->program.ranks) : first;
        for (int m = 0; m < game->program.micro_batches; m++) {
            game->rank_of[cell(game, s, m)] = dice_roll(dice, 2) == 0 ? first : second;
        }
    }
}

dpr_program_t random_program(dice_t *dice)
{
    game_t game = {.forward_only = dice_roll(dice, 8) == 0};
    const int ranks = 1 + dice_roll(dice, 5);
    assert_int_equal(dpr_program_init(&game.program, "random", ranks, 1 + dice_roll(dice, 6),
                                      1 + dice_roll(dice, 8)),
                     DPR_OK);
    const int cells = game.program.stages * game.program.micro_batches;
    game.most = 3 * cells;
    game.rank_of = calloc((size_t)cells, sizeof *game.rank_of);
    game.done = calloc((size_t)cells, 1);
    game.counts = calloc((size_t)ranks, sizeof *game.counts);
    game.ranks_actions = calloc((size_t)(ranks * game.most), sizeof *game.ranks_actions);
    place_stages(&game, dice);
    int idle = 0;
    for (int rank = dice_roll(dice, ranks); idle < ranks; rank = (rank + 1) % ranks) {
        idle++;
        for (int turns = 1 + dice_roll(dice, 4); turns > 0; turns--) {
            idle = play_turn(&game, dice, rank) ? 0 : idle;
        }
    }
    for (int rank = 0; rank < ranks; rank++) {
        for (int i = 0; i < game.counts[rank]; i++) {
            assert_int_equal(
                dpr_program_append(&game.program, rank, game.ranks_actions[rank * game.most + i]),
                DPR_OK);
        }
    }
    dpr_program_finish(&game.program);
    free(game.rank_of);
    free(game.done);
    free(game.counts);
    free(game.ranks_actions);
    return game.program;
}
