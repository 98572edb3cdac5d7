# Build vocabulary of the project. Four verbs:
#
#   hdl_library(NAME SOURCES a.c b.c DEPS heddle_base [LINK PkgConfig::X])
#       Static library of the current folder. Its headers are reachable as "<folder>/x.h", and only from targets that name it in
#       DEPS: that is the include wall. LINK takes third-party targets, which stay private to this library's own files.
#   hdl_program(NAME SOURCES main.c DEPS ...)
#       Program in build/<preset>/bin/.
#   hdl_test(NAME SOURCES test_x.c DEPS ... [ARGS ...] [LABELS ...] [NO_CMOCKA] [ONE_THREAD] [TIMEOUT s])
#       Unit test, registered with ctest; links cmocka unless NO_CMOCKA. ONE_THREAD: not for ThreadSanitizer.
#   hdl_fuzz(NAME SOURCES fuzz_x.c DEPS ... CORPUS folder)
#       libFuzzer target with -DHDL_FUZZ=ON; in every build also a plain program that replays the corpus as a test.

include_guard()

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_C_FLAGS_RELEASE "-O2 -g1" CACHE STRING "" FORCE)
set(CMAKE_C_FLAGS_DEV "-O1 -g" CACHE STRING "" FORCE)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1" CACHE STRING "" FORCE)
set(CMAKE_CXX_FLAGS_DEV "-O1 -g" CACHE STRING "" FORCE)

find_program(HDL_CCACHE ccache)
if(HDL_CCACHE AND NOT CMAKE_C_COMPILER_LAUNCHER)
  # Another clone of the same files finds what this one built: paths are seen from the build folder.
  set(HDL_LAUNCHER env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${HDL_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${HDL_LAUNCHER})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${HDL_LAUNCHER})
endif()

# Every target of ours: the machine level is x86-64-v2; kernel files raise it one by one and are chosen by cpuid at run time.
add_library(hdl_flags INTERFACE)
target_compile_options(hdl_flags INTERFACE
  -Wall -Wextra -Wshadow -Wconversion $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes> -Wvla -Werror
  -fno-omit-frame-pointer -fno-strict-aliasing -ffp-contract=off
  -ffile-prefix-map=${CMAKE_SOURCE_DIR}/= -ffile-prefix-map=../../=)
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  target_compile_options(hdl_flags INTERFACE -march=x86-64-v2)
endif()
target_compile_definitions(hdl_flags INTERFACE
  _GNU_SOURCE
  HDL_VERSION="${PROJECT_VERSION}"
  $<$<BOOL:${HDL_SLOW_CHECKS}>:HDL_SLOW_CHECKS>
  $<$<BOOL:${HDL_TRAP_ALLOC}>:HDL_TRAP_ALLOC>
  $<$<BOOL:${HDL_INJECT}>:HDL_INJECT_ENABLED>)
if(NOT HDL_SANITIZE STREQUAL "")
  # What sanitizers put between operations hides ranges that gcc sees otherwise; builds without them have the last word.
  # Their reports need lines, not variables: a fifth less to compile.
  target_compile_options(hdl_flags INTERFACE -Wno-conversion -Wno-sign-conversion -g1)
endif()
if(HDL_SANITIZE STREQUAL "address")
  target_compile_options(hdl_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all)
  target_link_options(hdl_flags INTERFACE -fsanitize=address,undefined)
elseif(HDL_SANITIZE STREQUAL "thread")
  target_compile_options(hdl_flags INTERFACE -fsanitize=thread)
  target_link_options(hdl_flags INTERFACE -fsanitize=thread)
endif()
if(HDL_FUZZ)
  target_compile_options(hdl_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# A wall is a folder in the build tree that holds one link to one source folder, under that folder's path from the root.
function(hdl_wall target)
  file(RELATIVE_PATH path ${CMAKE_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  set(wall ${CMAKE_BINARY_DIR}/walls/${target})
  get_filename_component(parent ${wall}/${path} DIRECTORY)
  file(MAKE_DIRECTORY ${parent})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${wall}/${path} SYMBOLIC)
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "INTERFACE_LIBRARY")
    target_include_directories(${target} INTERFACE ${wall})
  else()
    target_include_directories(${target} PUBLIC ${wall})
  endif()
endfunction()

function(hdl_library name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPS;LINK" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  target_link_libraries(${name} PUBLIC heddle_include ${A_DEPS} PRIVATE hdl_flags ${A_LINK})
  hdl_wall(${name})
endfunction()

function(hdl_program name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPS;LINK" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE hdl_flags heddle_include ${A_DEPS} ${A_LINK})
endfunction()

# What runs on one thread says nothing to ThreadSanitizer and takes it minutes: there it is built when named, and no test.
set(HDL_TSAN OFF)
set(HDL_UNLESS_TSAN "")
if(HDL_SANITIZE STREQUAL "thread")
  set(HDL_TSAN ON)
  set(HDL_UNLESS_TSAN EXCLUDE_FROM_ALL)
endif()

function(hdl_test name)
  cmake_parse_arguments(A "NO_CMOCKA;ONE_THREAD" "TIMEOUT" "SOURCES;DEPS;LINK;ARGS;LABELS" ${ARGN})
  set(all "")
  if(A_ONE_THREAD)
    set(all ${HDL_UNLESS_TSAN})
  endif()
  add_executable(${name} ${all} ${A_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE hdl_flags heddle_include ${A_DEPS} ${A_LINK})
  if(NOT A_NO_CMOCKA)
    target_link_libraries(${name} PRIVATE PkgConfig::CMOCKA)
  endif()
  target_compile_definitions(${name} PRIVATE HDL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  if(all)
    return()
  endif()
  add_test(NAME ${name} COMMAND ${name} ${A_ARGS})
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 600) # a hang is caught; a busy machine under a sanitizer is not
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${A_TIMEOUT} LABELS "${A_LABELS}")
endfunction()

function(hdl_fuzz name)
  cmake_parse_arguments(A "" "CORPUS" "SOURCES;DEPS;LINK" ${ARGN})
  set(corpus ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${A_CORPUS})
  add_executable(${name}_replay ${HDL_UNLESS_TSAN} ${A_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.c)
  set_target_properties(${name}_replay PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name}_replay PRIVATE hdl_flags heddle_include ${A_DEPS} ${A_LINK})
  if(NOT HDL_TSAN)
    add_test(NAME ${name}_replay COMMAND ${name}_replay ${corpus})
    set_tests_properties(${name}_replay PROPERTIES TIMEOUT 120 LABELS fuzz)
  endif()
  if(HDL_FUZZ)
    add_executable(${name} ${A_SOURCES})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
    target_link_libraries(${name} PRIVATE hdl_flags heddle_include ${A_DEPS} ${A_LINK})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    if(NOT TARGET fuzz)
      add_custom_target(fuzz) # all targets and nothing else
    endif()
    add_dependencies(fuzz ${name})
  endif()
endfunction()
