# Tests of the data, the optimizer and the cost files: nothing here needs a device, MPI or another rank.
add_library(dpr_data_testing STATIC data_testing.c)
target_link_libraries(dpr_data_testing PUBLIC dpr_base PkgConfig::CMOCKA PRIVATE ZLIB::ZLIB)
foreach(test idx_test dataset_test batch_test loader_test optimizer_test cost_file_test)
    dpr_test(${test} USES data_testing runtime)
endforeach()

# On its own, so that a machine without the data reports it as skipped.
add_test(NAME fashion_mnist_test COMMAND dataset_test --fashion-mnist)
set_tests_properties(fashion_mnist_test PROPERTIES LABELS unit TIMEOUT 120 SKIP_RETURN_CODE 77)
