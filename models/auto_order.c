/* The scheduler's orders as programs, and programs as orders. */
#include "models/auto_impl.h"

static dpr_action_t action_of(const auto_problem_t *problem, int32_t op)
{
    static const dpr_action_kind_t kinds[AUTO_KINDS] = {
        [AUTO_F] = DPR_ACTION_F, [AUTO_I] = DPR_ACTION_I, [AUTO_W] = DPR_ACTION_W};
    const auto_lane_t *lane = &problem->lanes[auto_op_lane(problem, op)];
    const int32_t index = auto_op_cell(op) % problem->per_lane;
    return dpr_action(kinds[auto_op_kind(op)], lane->stage, lane->first_micro_batch + index);
}

dpr_status_t auto_order_to_program(const auto_problem_t *problem, const int32_t *order,
                                   dpr_program_t *program)
{
    dpr_program_t made;
    DPR_TRY(
        dpr_program_init(&made, "auto", problem->ranks, problem->stages, problem->micro_batches));
    for (int32_t r = 0; r < problem->ranks; r++) {
        for (int32_t i = problem->begin[r]; i < problem->begin[r + 1]; i++) {
            const dpr_status_t status = dpr_program_append(&made, r, action_of(problem, order[i]));
            if (status != DPR_OK) {
                dpr_program_free(&made);
                return status;
            }
        }
    }
    dpr_program_finish(&made);
    *program = made;
    return DPR_OK;
}

static int32_t op_of_half(const auto_problem_t *problem, const dpr_action_t *half, int32_t kind)
{
    const int32_t direction = half->micro_batch / problem->per_lane;
    return auto_op_of(problem, direction * problem->stages + half->stage,
                      half->micro_batch % problem->per_lane, kind);
}

void auto_order_of_program(const auto_problem_t *problem, const dpr_program_t *program,
                           int32_t *order)
{
    const size_t size = dpr_program_size(program);
    for (size_t i = 0; i < size; i++) {
        dpr_action_t halves[2];
        const int count = dpr_action_halves(program->actions[i], halves);
        for (int h = 0; h < count; h++) {
            const dpr_action_kind_t kind = halves[h].kind;
            if (kind == DPR_ACTION_F) {
                *order++ = op_of_half(problem, &halves[h], AUTO_F);
            }
            if (kind == DPR_ACTION_I || kind == DPR_ACTION_B) {
                *order++ = op_of_half(problem, &halves[h], AUTO_I);
            }
            if (kind == DPR_ACTION_W || kind == DPR_ACTION_B) {
                *order++ = op_of_half(problem, &halves[h], AUTO_W);
            }
        }
    }
}

static bool has_placement(const dpr_program_t *program, dpr_auto_placement_t placement)
{
    const int32_t P = program->ranks;
    const bool both_ways = placement == DPR_AUTO_BIDIRECTIONAL;
    if (program->stages != (placement == DPR_AUTO_V ? 2 : 1) * P ||
        (both_ways && (P % 2 != 0 || program->micro_batches % 2 != 0))) {
        return false;
    }
    for (int32_t r = 0; r < P; r++) {
        for (size_t i = program->begin[r]; i < program->begin[r + 1]; i++) {
            dpr_action_t halves[2];
            const int count = dpr_action_halves(program->actions[i], halves);
            for (int h = 0; h < count; h++) {
                const bool goes_up =
                    both_ways && halves[h].micro_batch >= program->micro_batches / 2;
                if (auto_home(placement, P, halves[h].stage, goes_up) != r) {
                    return false;
                }
            }
        }
    }
    return true;
}

dpr_auto_placement_t auto_placement_of(const dpr_program_t *program)
{
    int p = 0;
    while (p < DPR_AUTO_PLACEMENTS && !has_placement(program, (dpr_auto_placement_t)p)) {
        p++;
    }
    return (dpr_auto_placement_t)p;
}
