/*
 * Which device and transport a run takes, of what is asked for and what every rank finds: auto
 * takes GPUs only where all ranks have one of their own, whichever of them each sees, NCCL is never
 * given a shared GPU, MPI may share them, and what the choice cannot do is refused with the option
 * and the way out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "runtime/device_choice.h"

enum { MAX_RANKS = 8 };

/* The rank sees, as its GPU `ordinal`, number `gpu` of its node. */
static void show_gpu(dpr_rank_gpus_t *rank, int ordinal, int gpu)
{
    snprintf(rank->pci[ordinal], sizeof rank->pci[ordinal], "0000:%02x:00.0", 16 + gpu);
    rank->gpus = ordinal + 1 > rank->gpus ? ordinal + 1 : rank->gpus;
}

/* `count` ranks, `per_node` to a node, that each see the `gpus` of their node. */
static void make_ranks(int count, int per_node, int gpus, dpr_rank_gpus_t *ranks)
{
    for (int r = 0; r < count; r++) {
        ranks[r] = (dpr_rank_gpus_t){
            .node_rank = r % per_node, .node_size = per_node, .node = (uint64_t)(r / per_node)};
        for (int gpu = 0; gpu < gpus; gpu++) {
            show_gpu(&ranks[r], gpu, gpu);
        }
        if (gpus == 0) {
            snprintf(ranks[r].missing, sizeof ranks[r].missing, "no NVIDIA driver");
        }
    }
}

static dpr_train_config_t config_of(const char *device, const char *comm)
{
    dpr_train_config_t config;
    dpr_train_config_default(&config);
    config.device = device;
    config.comm = comm;
    return config;
}

/* What rank `rank` decides; it must be allowed. */
static dpr_device_choice_t decide(const dpr_train_config_t *config, const dpr_rank_gpus_t *ranks,
                                  int count, int rank)
{
    dpr_device_choice_t choice;
    assert_int_equal(dpr_device_decide(config, ranks, count, rank, &choice), DPR_OK);
    return choice;
}

static void expect_refusal(const dpr_train_config_t *config, const dpr_rank_gpus_t *ranks,
                           int count, dpr_status_t expected, const char *const *words)
{
    for (int r = 0; r < count; r++) {
        char message[1024];
        dpr_log_capture_t capture;
        dpr_device_choice_t choice = {.ordinal = 77};
        dpr_log_capture_begin(&capture, message, sizeof message);
        const dpr_status_t status = dpr_device_decide(config, ranks, count, r, &choice);
        dpr_log_capture_end(&capture);
        assert_int_equal(status, expected);
        assert_int_equal(choice.ordinal, 77); /* set only on success */
        for (const char *const *word = words; *word != NULL; word++) {
            if (strstr(message, *word) == NULL) {
                fail_msg("rank %d's message does not say '%s': %s", r, *word, message);
            }
        }
    }
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void auto_takes_a_gpu_for_each_rank(void **state)
{
    (void)state;
    const dpr_train_config_t config = config_of("auto", "auto");
    dpr_rank_gpus_t ranks[MAX_RANKS];
    make_ranks(8, 4, 4, ranks);
    for (int r = 0; r < 8; r++) {
        const dpr_device_choice_t choice = decide(&config, ranks, 8, r);
        assert_true(choice.is_cuda && choice.is_nccl && !choice.fell_back);
        assert_int_equal(choice.ordinal, r % 4);
        assert_int_equal(choice.comm_ctas, DPR_DEFAULT_COMM_CTAS);
    }
}

static void auto_falls_back_and_says_why(void **state)
{
    (void)state;
    const dpr_train_config_t config = config_of("auto", "auto");
    dpr_rank_gpus_t ranks[MAX_RANKS];
    make_ranks(8, 4, 0, ranks);
    dpr_device_choice_t choice = decide(&config, ranks, 8, 5);
    assert_true(!choice.is_cuda && !choice.is_nccl && choice.fell_back);
    assert_non_null(strstr(choice.reason, "no NVIDIA driver"));

    make_ranks(8, 4, 3, ranks); /* one too few */
    choice = decide(&config, ranks, 8, 5);
    assert_true(!choice.is_cuda && choice.fell_back);
    assert_non_null(
        strstr(choice.reason,
               "fewer GPUs than ranks: the 4 ranks on the node of rank 3 see 3 GPUs between them"));

    make_ranks(8, 4, 4, ranks); /* one rank of another node without is enough, for all */
    ranks[6].gpus = 0;
    snprintf(ranks[6].missing, sizeof ranks[6].missing, "no GPU");
    for (int r = 0; r < 8; r++) {
        choice = decide(&config, ranks, 8, r);
        assert_true(!choice.is_cuda && choice.fell_back);
        assert_non_null(strstr(choice.reason, "rank 6 has no GPU: no GPU"));
    }
}

static void auto_stays_on_the_host_for_what_only_it_has(void **state)
{
    (void)state;
    dpr_rank_gpus_t ranks[MAX_RANKS];
    make_ranks(2, 2, 2, ranks);
    dpr_train_config_t config = config_of("auto", "auto");
    config.clock = "model";
    dpr_device_choice_t choice = decide(&config, ranks, 2, 0);
    assert_true(!choice.is_cuda && !choice.fell_back);
    config = config_of("auto", "auto");
    config.chaos_seed = 3;
    choice = decide(&config, ranks, 2, 0);
    assert_true(!choice.is_cuda && !choice.fell_back);
    config.device = "cuda";
    expect_refusal(&config, ranks, 2, DPR_ERR_INVALID, WORDS("--chaos 3", "--device host"));
    config = config_of("cuda", "auto");
    config.clock = "core";
    expect_refusal(&config, ranks, 2, DPR_ERR_INVALID, WORDS("--clock core", "--device host"));
}

static void mpi_shares_gpus_and_nccl_does_not(void **state)
{
    (void)state;
    dpr_rank_gpus_t ranks[MAX_RANKS];
    make_ranks(8, 8, 3, ranks);
    const dpr_train_config_t shared = config_of("cuda", "mpi");
    for (int r = 0; r < 8; r++) {
        const dpr_device_choice_t choice = decide(&shared, ranks, 8, r);
        assert_true(choice.is_cuda && !choice.is_nccl);
        assert_int_equal(choice.ordinal, r % 3);
    }
    static const char *const comms[] = {"auto", "nccl"};
    for (size_t i = 0; i < 2; i++) {
        const dpr_train_config_t config = config_of("cuda", comms[i]);
        expect_refusal(
            &config, ranks, 8, DPR_ERR_UNSUPPORTED,
            WORDS("the 8 ranks on the node of rank 3 see 3 GPUs", "at most 3 ranks", "--comm mpi"));
    }
}

/* What a launcher that sets CUDA_VISIBLE_DEVICES for each rank shows: one GPU, which all call 0. */
static void make_shown_one(int count, int per_node, dpr_rank_gpus_t *ranks)
{
    make_ranks(count, per_node, 0, ranks);
    for (int r = 0; r < count; r++) {
        show_gpu(&ranks[r], 0, r % per_node);
    }
}

static void ranks_that_see_one_gpu_each_take_it(void **state)
{
    (void)state;
    static const char *const devices[] = {"auto", "cuda"};
    dpr_rank_gpus_t ranks[MAX_RANKS];
    make_shown_one(8, 4, ranks); /* the same addresses on both nodes */
    for (size_t i = 0; i < 2; i++) {
        const dpr_train_config_t config = config_of(devices[i], "auto");
        for (int r = 0; r < 8; r++) {
            const dpr_device_choice_t choice = decide(&config, ranks, 8, r);
            assert_true(choice.is_cuda && choice.is_nccl && !choice.fell_back);
            assert_int_equal(choice.ordinal, 0);
        }
    }
}

static void ranks_that_see_the_same_gpu_share_it_by_mpi_alone(void **state)
{
    (void)state;
    dpr_rank_gpus_t ranks[MAX_RANKS];
    make_shown_one(4, 4, ranks);
    show_gpu(&ranks[3], 0, 1); /* rank 1's */
    const dpr_train_config_t refused = config_of("cuda", "nccl");
    expect_refusal(&refused, ranks, 4, DPR_ERR_UNSUPPORTED,
                   WORDS("the 4 ranks on the node of rank 3 see 3 GPUs between them",
                         "at most 3 ranks", "one of its own", "--comm mpi"));
    const dpr_train_config_t config = config_of("auto", "auto");
    const dpr_device_choice_t choice = decide(&config, ranks, 4, 0);
    assert_true(!choice.is_cuda && choice.fell_back);
    const dpr_train_config_t shared = config_of("cuda", "mpi");
    for (int r = 0; r < 4; r++) {
        const dpr_device_choice_t each = decide(&shared, ranks, 4, r);
        assert_true(each.is_cuda && !each.is_nccl);
        assert_int_equal(each.ordinal, 0);
    }
}

/* Rank 0 sees both GPUs and rank 1 the first only: rank 0 makes way. */
static void a_rank_that_sees_more_makes_way(void **state)
{
    (void)state;
    dpr_rank_gpus_t ranks[MAX_RANKS];
    make_ranks(3, 3, 0, ranks);
    show_gpu(&ranks[0], 0, 0);
    show_gpu(&ranks[0], 1, 1);
    show_gpu(&ranks[1], 0, 1);
    show_gpu(&ranks[1], 1, 2);
    show_gpu(&ranks[2], 0, 0);
    const dpr_train_config_t config = config_of("auto", "auto");
    assert_int_equal(decide(&config, ranks, 3, 0).ordinal, 1);
    assert_int_equal(decide(&config, ranks, 3, 1).ordinal, 1);
    assert_int_equal(decide(&config, ranks, 3, 2).ordinal, 0);
    show_gpu(&ranks[1], 0, 0); /* now ranks 1 and 2 both see the first alone, which rank 0 leaves */
    ranks[1].gpus = 1;
    show_gpu(&ranks[0], 2, 2);
    const dpr_train_config_t nccl = config_of("cuda", "nccl");
    expect_refusal(&nccl, ranks, 3, DPR_ERR_UNSUPPORTED,
                   WORDS("rank 2 sees only GPUs that other ranks of its node need", "--comm mpi"));
}

/* Where CUDA does not say the addresses, GPUs are known by their numbers, as all see the same. */
static void gpus_of_unknown_address_are_known_by_number(void **state)
{
    (void)state;
    dpr_rank_gpus_t ranks[MAX_RANKS];
    const dpr_train_config_t config = config_of("auto", "auto");
    make_ranks(2, 2, 2, ranks);
    memset(ranks[0].pci, 0, sizeof ranks[0].pci);
    memset(ranks[1].pci, 0, sizeof ranks[1].pci);
    assert_int_equal(decide(&config, ranks, 2, 1).ordinal, 1);
    ranks[0].gpus = 1;
    ranks[1].gpus = 1;
    assert_true(decide(&config, ranks, 2, 1).fell_back);
}

static void without_a_gpu_cuda_is_refused(void **state)
{
    (void)state;
    dpr_rank_gpus_t ranks[MAX_RANKS];
    make_ranks(4, 4, 0, ranks);
    static const char *const comms[] = {"auto", "nccl", "mpi"};
    for (size_t i = 0; i < 3; i++) {
        const dpr_train_config_t config = config_of("cuda", comms[i]);
        expect_refusal(&config, ranks, 4, DPR_ERR_UNSUPPORTED,
                       WORDS("--device cuda", "no NVIDIA driver", "--device host"));
    }
}

static void the_host_refuses_what_only_cuda_has(void **state)
{
    (void)state;
    dpr_rank_gpus_t ranks[MAX_RANKS];
    make_ranks(2, 2, 2, ranks);
    dpr_train_config_t config = config_of("host", "nccl");
    expect_refusal(&config, ranks, 2, DPR_ERR_UNSUPPORTED, WORDS("--comm nccl", "--comm mpi"));
    config = config_of("host", "auto");
    config.dtype = DPR_DTYPE_BF16;
    expect_refusal(&config, ranks, 2, DPR_ERR_UNSUPPORTED, WORDS("--dtype bf16", "--dtype fp32"));
    config.dtype = DPR_DTYPE_TF32;
    expect_refusal(&config, ranks, 2, DPR_ERR_UNSUPPORTED, WORDS("--dtype tf32", "--device cuda"));
    config = config_of("host", "auto");
    config.cuda_graph = true;
    expect_refusal(&config, ranks, 2, DPR_ERR_UNSUPPORTED, WORDS("--cuda-graph", "--device cuda"));
    config = config_of("host", "auto");
    config.comm_ctas = 2;
    expect_refusal(&config, ranks, 2, DPR_ERR_INVALID, WORDS("--comm-ctas 2", "--comm nccl"));
    /* also where auto has come to the host, and then with what it found */
    make_ranks(2, 2, 1, ranks);
    config = config_of("auto", "auto");
    config.dtype = DPR_DTYPE_BF16;
    expect_refusal(&config, ranks, 2, DPR_ERR_UNSUPPORTED,
                   WORDS("--dtype bf16", "fewer GPUs than ranks"));
}

static void graphs_and_ctas_are_of_nccl(void **state)
{
    (void)state;
    dpr_rank_gpus_t ranks[MAX_RANKS];
    make_ranks(2, 2, 2, ranks);
    dpr_train_config_t config = config_of("cuda", "auto");
    config.cuda_graph = true;
    config.comm_ctas = 9;
    config.dtype = DPR_DTYPE_BF16;
    const dpr_device_choice_t choice = decide(&config, ranks, 2, 1);
    assert_true(choice.is_nccl);
    assert_int_equal(choice.comm_ctas, 9);
    config.comm = "mpi";
    expect_refusal(&config, ranks, 2, DPR_ERR_UNSUPPORTED, WORDS("--cuda-graph", "--comm nccl"));
    config.cuda_graph = false;
    expect_refusal(&config, ranks, 2, DPR_ERR_INVALID, WORDS("--comm-ctas 9", "--comm nccl"));
}

/* The ranks must agree on all of it. */
static void the_options_are_compared_between_ranks(void **state)
{
    (void)state;
    const dpr_train_config_t plain = config_of("auto", "auto");
    dpr_train_config_t others[5] = {plain, plain, plain, plain, plain};
    char text[2][4096];
    others[0].dtype = DPR_DTYPE_BF16;
    others[1].comm = "mpi";
    others[2].comm_ctas = 1;
    others[3].cuda_graph = true;
    others[4].timeout_sec = 0.0;
    assert_true(dpr_train_config_format(&plain, text[0], sizeof text[0]) < sizeof text[0]);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_true(dpr_train_config_format(&others[i], text[1], sizeof text[1]) < sizeof text[1]);
        assert_string_not_equal(text[0], text[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_takes_a_gpu_for_each_rank),
        cmocka_unit_test(auto_falls_back_and_says_why),
        cmocka_unit_test(auto_stays_on_the_host_for_what_only_it_has),
        cmocka_unit_test(mpi_shares_gpus_and_nccl_does_not),
        cmocka_unit_test(ranks_that_see_one_gpu_each_take_it),
        cmocka_unit_test(ranks_that_see_the_same_gpu_share_it_by_mpi_alone),
        cmocka_unit_test(a_rank_that_sees_more_makes_way),
        cmocka_unit_test(gpus_of_unknown_address_are_known_by_number),
        cmocka_unit_test(without_a_gpu_cuda_is_refused),
        cmocka_unit_test(the_host_refuses_what_only_cuda_has),
        cmocka_unit_test(graphs_and_ctas_are_of_nccl),
        cmocka_unit_test(the_options_are_compared_between_ranks),
    };
    return cmocka_run_group_tests_name("device_choice", tests, NULL, NULL);
}
