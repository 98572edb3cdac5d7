# What the control plane reads from the other side.
hdl_fuzz(fuzz_plan SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuzz_plan.c
  DEPS heddle_proto heddle_base CORPUS plan)
hdl_fuzz(fuzz_control SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuzz_control.c
  DEPS heddle_proto heddle_base CORPUS control)
