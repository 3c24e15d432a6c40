# dualpipe_plan from the outside: output, exit codes, messages.
add_test(NAME plan_test
    COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/plan_test.sh $<TARGET_FILE:dualpipe_plan>
        ${CMAKE_CURRENT_LIST_DIR}/../golden)
set_tests_properties(plan_test PROPERTIES LABELS unit TIMEOUT 120)
add_test(NAME plan_a_tests
    COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/plan_a_tests.sh $<TARGET_FILE:dualpipe_plan>
        ${CMAKE_CURRENT_LIST_DIR}/../golden)
add_test(NAME plan_docs_test
    COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/plan_docs_test.sh $<TARGET_FILE:dualpipe_plan>
        ${PROJECT_SOURCE_DIR}/docs/models-bubbles.md ${PROJECT_SOURCE_DIR}/docs/models-communication.md
        ${PROJECT_SOURCE_DIR}/docs/models-memory.md)
add_test(NAME plan_completion_test
    COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/plan_completion_test.sh
        ${PROJECT_SOURCE_DIR}/completions/dualpipe.bash $<TARGET_FILE:dualpipe_plan>
        $<TARGET_FILE:dualpipe_train>)
add_test(NAME plan_man_test
    COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/plan_man_test.sh ${PROJECT_SOURCE_DIR}/scripts/make-man.sh
        $<TARGET_FILE:dualpipe_plan> "plans pipeline schedules before a run")
add_test(NAME train_man_test
    COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/plan_man_test.sh ${PROJECT_SOURCE_DIR}/scripts/make-man.sh
        $<TARGET_FILE:dualpipe_train> "trains an MLP over pipeline ranks and measures the bubbles")
set_tests_properties(plan_a_tests plan_docs_test plan_completion_test plan_man_test train_man_test
    PROPERTIES LABELS unit TIMEOUT 120 SKIP_RETURN_CODE 77)
add_test(NAME plan_b_tests
    COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/plan_b_tests.sh $<TARGET_FILE:dualpipe_plan>)
add_test(NAME plan_b_docs_test
    COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/plan_docs_test.sh $<TARGET_FILE:dualpipe_plan>
        ${PROJECT_SOURCE_DIR}/docs/models-throughput.md ${PROJECT_SOURCE_DIR}/docs/models-scaling.md
        ${PROJECT_SOURCE_DIR}/docs/models-search.md ${PROJECT_SOURCE_DIR}/docs/ledger.md)
set_tests_properties(plan_b_tests plan_b_docs_test PROPERTIES LABELS unit TIMEOUT 120)
add_test(NAME plan_auto_test
    COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/plan_auto_test.sh $<TARGET_FILE:dualpipe_plan>)
set_tests_properties(plan_auto_test PROPERTIES LABELS unit TIMEOUT 120)
add_test(NAME plan_report_test
    COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/plan_report_test.sh $<TARGET_FILE:dualpipe_plan>)
add_test(NAME page_browser_test
    COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/page_browser_test.sh $<TARGET_FILE:dualpipe_plan>)
add_test(NAME plan_drawings_docs_test
    COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/plan_docs_test.sh $<TARGET_FILE:dualpipe_plan>
        ${PROJECT_SOURCE_DIR}/docs/drawings.md)
set_tests_properties(plan_report_test page_browser_test plan_drawings_docs_test
    PROPERTIES LABELS unit TIMEOUT 120 SKIP_RETURN_CODE 77)
