# Programs, their man pages (made from --help while building), hardware descriptions and the completion
# for bash: what
# `cmake --install` puts under the prefix. Included where the programs' targets exist.
include(GNUInstallDirs)

install(TARGETS dualpipe_plan dualpipe_train dualpipe_bench RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

install(DIRECTORY ${PROJECT_SOURCE_DIR}/hardware DESTINATION ${CMAKE_INSTALL_DATADIR}/dualpipe)

function(dpr_man_page program summary)
    set(page ${CMAKE_BINARY_DIR}/man/${program}.1)
    add_custom_command(OUTPUT ${page}
        COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/man
        COMMAND bash ${PROJECT_SOURCE_DIR}/scripts/make-man.sh $<TARGET_FILE:${program}> ${summary}
            > ${page}
        DEPENDS ${program} ${PROJECT_SOURCE_DIR}/scripts/make-man.sh
        VERBATIM)
    add_custom_target(${program}_man ALL DEPENDS ${page})
    install(FILES ${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endfunction()

dpr_man_page(dualpipe_plan "plans pipeline schedules before a run")
dpr_man_page(dualpipe_train "trains an MLP over pipeline ranks and measures the bubbles")
dpr_man_page(dualpipe_bench "measures products, transfers, steps and predictions")

foreach(program dualpipe_plan dualpipe_train dualpipe_bench)
    install(FILES ${PROJECT_SOURCE_DIR}/completions/dualpipe.bash RENAME ${program}
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
endforeach()
