/*
 * What a schedule asks of the links: the wire time that stays hidden, and where two schedules
 * change places. By search on the simulator; declared in communication.h.
 */
#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "models/communication.h"
#include "models/simulate.h"

enum { GRID_STEPS = 64 };

/* Makespans nearer than this, relative, are equal. */
#define EQUAL_RELATIVE 1e-12

/* Where a bisection ends, relative. */
#define BISECTION_RELATIVE 1e-9

/* One graph, to be simulated with any wire time. */
typedef struct player {
    const dpr_graph_t *graph;
    double *cost;
    double *end;
} player_t;

static void player_free(player_t *player)
{
    free(player->cost);
    free(player->end);
}

static double play(player_t *player, double wire)
{
    const dpr_graph_t *graph = player->graph;
    for (int32_t n = graph->compute_count; n < graph->node_count; n++) {
        player->cost[n] = wire;
    }
    return dpr_simulate_makespan(graph, player->cost, player->end);
}

/* Costs that make a makespan: at least 0, and their sum without wire time finite. */
static dpr_status_t check_makespan(player_t *player)
{
    for (int32_t n = 0; n < player->graph->compute_count; n++) {
        if (!(player->cost[n] >= 0.0)) {
            return dpr_fail(DPR_ERR_INVALID, "a cost is %g: expected a finite number, 0 or more",
                            player->cost[n]);
        }
    }
    /* searches go to a few times this */
    if (!isfinite(64.0 * play(player, 0.0))) {
        return dpr_fail(DPR_ERR_INVALID, "the costs are too large: their sum is not finite");
    }
    return DPR_OK;
}

static dpr_status_t player_init(player_t *player, const dpr_graph_t *graph,
                                const dpr_uniform_costs_t *costs)
{
    const size_t nodes = (size_t)graph->node_count;
    *player = (player_t){.graph = graph};
    dpr_status_t status;
    DPR_TRY_GOTO(dpr_calloc(nodes, sizeof(double), &player->cost), free_player);
    DPR_TRY_GOTO(dpr_calloc(nodes, sizeof(double), &player->end), free_player);
    dpr_uniform_costs_fill(costs, graph, player->cost);
    DPR_TRY_GOTO(check_makespan(player), free_player);
    return DPR_OK;
free_player:
    player_free(player);
    return status;
}

static bool has_transfers(const dpr_graph_t *graph)
{
    return graph->node_count > graph->compute_count;
}

/* The largest wire time with makespan(wire) <= limit; `above` is one that is too long. */
static double bisect_hidden(player_t *player, double limit, double above)
{
    double below = 0.0;
    while (above - below > BISECTION_RELATIVE * above) {
        const double middle = 0.5 * (below + above);
        if (middle <= below || middle >= above) {
            break;
        }
        if (play(player, middle) <= limit) {
            below = middle;
        } else {
            above = middle;
        }
        if (above < limit * 1e-15) { /* hidden within rounding only */
            return 0.0;
        }
    }
    return below;
}

dpr_status_t dpr_wire_hidden(const dpr_graph_t *graph, const dpr_uniform_costs_t *costs,
                             double tolerance, double *wire_sec)
{
    if (!isfinite(tolerance) || tolerance < 0.0) {
        return dpr_fail(DPR_ERR_INVALID, "tolerance %g: expected a finite number, 0 or more",
                        tolerance);
    }
    player_t player;
    DPR_TRY(player_init(&player, graph, costs));
    const double alone = play(&player, 0.0);
    const double limit = alone * (1.0 + tolerance);
    if (!has_transfers(graph) || alone <= 0.0) {
        *wire_sec = INFINITY;
    } else {
        /* one transfer of more than the limit is too long for certain */
        *wire_sec = bisect_hidden(&player, limit, 2.0 * limit);
    }
    player_free(&player);
    return DPR_OK;
}

double dpr_wire_bandwidth(int64_t message_bytes, double wire_sec, double latency_sec)
{
    if (message_bytes == 0 || isinf(wire_sec)) {
        return 0.0;
    }
    return wire_sec > latency_sec ? (double)message_bytes / (wire_sec - latency_sec) : INFINITY;
}

/* Sign of a - b, equal but for rounding being 0. */
static int order(double a, double b)
{
    if (fabs(a - b) <= EQUAL_RELATIVE * fmax(a, b)) {
        return 0;
    }
    return a < b ? -1 : 1;
}

static int order_at(player_t *a, player_t *b, double wire)
{
    return order(play(a, wire), play(b, wire));
}

/* The order is `beyond` at `above` and not at `below`: where it begins to be. */
static double bisect_order(player_t *a, player_t *b, int beyond, double below, double above)
{
    while (above - below > BISECTION_RELATIVE * above) {
        const double middle = 0.5 * (below + above);
        if (middle <= below || middle >= above) {
            break;
        }
        if (order_at(a, b, middle) == beyond) {
            above = middle;
        } else {
            below = middle;
        }
    }
    return above;
}

/* A point of the grid: denser near 0, where most crossovers lie. */
static double grid_point(int step, double most)
{
    const double t = (double)step / GRID_STEPS;
    return most * t * t;
}

static void find_crossover(player_t *a, player_t *b, double most, dpr_wire_crossover_t *crossover)
{
    int leader = order_at(a, b, 0.0);
    *crossover = (dpr_wire_crossover_t){NAN, leader, leader};
    for (int step = 1; step <= GRID_STEPS; step++) {
        const double wire = grid_point(step, most);
        const int now = order_at(a, b, wire);
        if (now == 0 || now == leader) {
            continue; /* a tie is not yet a change of places */
        }
        if (leader != 0) {
            crossover->wire_sec = bisect_order(a, b, now, grid_point(step - 1, most), wire);
            crossover->beyond = now;
            return;
        }
        leader = crossover->before = crossover->beyond = now;
    }
}

dpr_status_t dpr_wire_crossover(const dpr_graph_t *a, const dpr_uniform_costs_t *costs_a,
                                const dpr_graph_t *b, const dpr_uniform_costs_t *costs_b,
                                double most, dpr_wire_crossover_t *crossover)
{
    if (!isfinite(most) || most <= 0.0) {
        return dpr_fail(DPR_ERR_INVALID, "largest wire time %g: expected a finite number above 0",
                        most);
    }
    player_t first;
    player_t second;
    DPR_TRY(player_init(&first, a, costs_a));
    const dpr_status_t status = player_init(&second, b, costs_b);
    if (status == DPR_OK) {
        find_crossover(&first, &second, most, crossover);
        player_free(&second);
    }
    player_free(&first);
    return status;
}
