# Readers of clients' bytes in scheduler/front. The fake engine brings hdl_request_free, which is scheduler/cluster's.
hdl_fuzz(fuzz_front_http SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuzz_front_http.c DEPS heddle_front
  CORPUS front_http)
hdl_fuzz(fuzz_front_json SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuzz_front_json.c
  ${CMAKE_SOURCE_DIR}/tests/unit/front/fake_engine.c DEPS heddle_front
  CORPUS front_json)
