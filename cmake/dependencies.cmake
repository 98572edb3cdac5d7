# Third-party libraries, all Debian 12 packages. Each is linked by exactly one of our files or folders (DESIGN: exit plans).
include_guard()
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)

pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson>=2.14)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8>=10.40)
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc>=2.9)
pkg_check_modules(PROTOBUF_C REQUIRED IMPORTED_TARGET libprotobuf-c>=1.4)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl>=7.85)
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka>=1.1.5)

# gRPC's pkg-config and CMake files pull in some sixty libraries that a C program does not need: libgrpc and libgpr suffice.
find_library(HDL_GRPC_LIBRARY grpc REQUIRED)
find_library(HDL_GPR_LIBRARY gpr REQUIRED)
add_library(hdl_grpc INTERFACE)
target_link_libraries(hdl_grpc INTERFACE ${HDL_GRPC_LIBRARY} ${HDL_GPR_LIBRARY} Threads::Threads)

find_library(HDL_HTTP_PARSER_LIBRARY http_parser REQUIRED)
add_library(hdl_http_parser INTERFACE)
target_link_libraries(hdl_http_parser INTERFACE ${HDL_HTTP_PARSER_LIBRARY})

find_program(HDL_PROTOC_C protoc-c REQUIRED)

# UCX is loaded by the first worker of a group that spans hosts, so only its headers are looked for. Without them such groups are
# refused, and `heddle version` says so.
find_path(HDL_UCX_HEADERS ucp/api/ucp.h)
if(NOT HDL_UCX_HEADERS)
  message(STATUS "UCX's headers are missing (libucx-dev): no tensor parallel groups across hosts")
endif()
