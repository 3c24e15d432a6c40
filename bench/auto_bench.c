/*
 * The scheduler's bubble beside that of every fixed schedule that keeps to the same limit, what
 * dualpipe needs, as a Markdown table.
 *
 *     auto_bench [PLACEMENT [MOVES [RANKS]]]      default: v 100000, and 4, 8 and 16 ranks
 *
 * PLACEMENT is v, one-to-one, bidirectional or any, MOVES the budget of one row, so that the table
 * does not depend on the machine; 0 gives every row 2 seconds instead. M is 2P and 4P.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "models/auto.h"

static const double costs[][3] = {{1.0, 1.0, 1.0}, {1.0, 1.2, 0.8}, {1.0, 0.7, 1.3}};
static const double wires[] = {0.0, 0.1};

enum { COSTS = 3, WIRES = 2 };

/* How often a row was better than dualpipe, and than the best of all that fit. */
typedef struct score {
    int rows;
    int bound;
    int dualpipe;
    int better;
    int equal;
} score_t;

static void print_head(const dpr_auto_report_t *report)
{
    printf("| P | M | F, I, W | wire | bound | list | **auto** |");
    for (int i = 0; i < report->rival_count; i++) {
        printf(" %s |", report->rivals[i].name);
    }
    printf("\n|---|---|---|---|---|---|---|");
    for (int i = 0; i < report->rival_count; i++) {
        printf("---|");
    }
    printf("\n");
}

static void count_row(const dpr_auto_report_t *report, score_t *score)
{
    const double little = 1e-9 * report->makespan_sec;
    double best = report->makespan_sec + 1e300;
    for (int i = 0; i < report->rival_count; i++) {
        const dpr_auto_rival_t *rival = &report->rivals[i];
        if (!rival->runs || !rival->fits) {
            continue;
        }
        best = rival->makespan_sec < best ? rival->makespan_sec : best;
        score->dualpipe += strcmp(rival->name, "dualpipe") == 0 &&
                           report->makespan_sec < rival->makespan_sec - little;
    }
    score->rows++;
    score->bound += report->makespan_sec <= report->lower_bound_sec + little;
    score->better += report->makespan_sec < best - little;
    score->equal += report->makespan_sec >= best - little && report->makespan_sec <= best + little;
}

static void print_row(const dpr_auto_request_t *request, const dpr_auto_report_t *report)
{
    const double busy = report->makespan_sec - report->bubble_sec;
    printf("| %d | %d | %g, %g, %g | %g | %.4g | %.4g | **%.4g**%s |", request->ranks,
           request->micro_batches, request->costs.f, request->costs.i, request->costs.w,
           request->costs.wire, report->lower_bound_sec - busy, report->list_sec - busy,
           report->bubble_sec, report->fixed != NULL ? " (fixed)" : "");
    for (int i = 0; i < report->rival_count; i++) {
        const dpr_auto_rival_t *rival = &report->rivals[i];
        if (rival->runs && rival->fits) {
            printf(" %.4g |", rival->bubble_sec);
        } else {
            printf(" %s |", rival->runs ? "over" : "-");
        }
    }
    printf("\n");
    fflush(stdout);
}

static dpr_status_t play(dpr_auto_request_t *request, score_t *score)
{
    for (int row = 0; row < 2 * COSTS * WIRES; row++) {
        const double *of = costs[row / WIRES % COSTS];
        request->micro_batches = (row < COSTS * WIRES ? 2 : 4) * request->ranks;
        request->costs.f = of[0];
        request->costs.i = of[1];
        request->costs.w = of[2];
        request->costs.wire = wires[row % WIRES];
        dpr_program_t program;
        dpr_auto_report_t report;
        DPR_TRY(dpr_auto_schedule(request, &program, &report));
        dpr_program_free(&program);
        if (score->rows == 0) {
            print_head(&report);
        }
        print_row(request, &report);
        count_row(&report, score);
    }
    return DPR_OK;
}

static void print_message(void *user, dpr_log_level_t level, const char *message)
{
    (void)user;
    (void)level;
    fprintf(stderr, "auto_bench: %s\n", message);
}

int main(int argc, char *argv[])
{
    dpr_log_set_sink(print_message, NULL);
    dpr_auto_request_t request = DPR_AUTO_REQUEST_DEFAULT;
    request.placement = DPR_AUTO_V;
    for (int i = 0; argc > 1 && i <= DPR_AUTO_PLACEMENTS; i++) {
        if (strcmp(argv[1], dpr_auto_placement_name((dpr_auto_placement_t)i)) == 0) {
            request.placement = (dpr_auto_placement_t)i;
        }
    }
    request.iterations = argc > 2 ? atoll(argv[2]) : 100000;
    request.budget_sec = request.iterations > 0 ? 0.0 : 2.0;
    const int only = argc > 3 ? atoi(argv[3]) : 0;
    printf("placement %s, at most %lld moves a row, bubbles in the unit of F\n\n",
           dpr_auto_placement_name(request.placement), (long long)request.iterations);
    score_t score = {0};
    for (request.ranks = 4; request.ranks <= 16; request.ranks *= 2) {
        if ((only == 0 || only == request.ranks) && play(&request, &score) != DPR_OK) {
            return EXIT_FAILURE;
        }
    }
    printf("\nof %d rows: at the bound %d, better than dualpipe %d, better than all fixed that fit "
           "%d, equal to their best %d\n",
           score.rows, score.bound, score.dualpipe, score.better, score.equal);
    return EXIT_SUCCESS;
}
