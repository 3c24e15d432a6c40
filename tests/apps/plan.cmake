# dualpipe_plan from the outside: output, exit codes, messages.
add_test(NAME plan_test
    COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/plan_test.sh $<TARGET_FILE:dualpipe_plan>
        ${CMAKE_CURRENT_LIST_DIR}/../golden)
set_tests_properties(plan_test PROPERTIES LABELS unit TIMEOUT 120)
