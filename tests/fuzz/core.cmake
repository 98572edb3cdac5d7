# What drives the scheduler core from outside: a recorded file, and events of any shape.
hdl_fuzz(fuzz_journal SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuzz_journal.c
  DEPS heddle_record heddle_core heddle_base CORPUS journal)
hdl_fuzz(fuzz_sched SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuzz_sched.c
  DEPS heddle_core heddle_base CORPUS sched)
