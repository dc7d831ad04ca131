# Finds the pinned dependencies and wraps each in one interface target (fwl_torch, fwl_mpi, ...).
# LibTorch: -DLIBTORCH or $LIBTORCH (a folder with include/ and lib/), then .deps (launch/setup.sh puts the
# PyPI wheel there), then the torch that python3 imports. Its own CMake package is not used: it asks for a
# CUDA toolkit even when only libtorch_cpu is linked.
set(FWL_TORCH_VERSION 2.11.0)
set(LIBTORCH "$ENV{LIBTORCH}" CACHE PATH "LibTorch ${FWL_TORCH_VERSION}: folder with include/ and lib/")
set(FWL_DEPS_DIR "$ENV{FWL_DEPS_DIR}" CACHE PATH "Where launch/setup.sh put LibTorch (empty: .deps)")
if(FWL_DEPS_DIR)
  set(fwl_deps "${FWL_DEPS_DIR}")
else()
  set(fwl_deps "${CMAKE_SOURCE_DIR}/.deps")
endif()
if(NOT LIBTORCH AND EXISTS "${fwl_deps}/site/torch/lib/libtorch_cpu.so")
  set(fwl_libtorch "${fwl_deps}/site/torch")
elseif(NOT LIBTORCH)
  execute_process(COMMAND python3 -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
                  OUTPUT_VARIABLE fwl_libtorch OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
else()
  set(fwl_libtorch "${LIBTORCH}")
endif()
if(NOT EXISTS "${fwl_libtorch}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "LibTorch ${FWL_TORCH_VERSION} was not found (looked at LIBTORCH='${LIBTORCH}', .deps/site/torch and "
                      "python3's torch). Run ./launch/setup.sh, or set LIBTORCH to a folder with include/ and lib/.")
endif()
file(STRINGS "${fwl_libtorch}/include/torch/headeronly/version.h" fwl_version_lines
     REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
string(REGEX REPLACE "[^0-9;]" "" fwl_version "${fwl_version_lines}")
string(REPLACE ";" "." fwl_version "${fwl_version}")
if(NOT fwl_version STREQUAL FWL_TORCH_VERSION)
  message(FATAL_ERROR "${fwl_libtorch} holds LibTorch '${fwl_version}', but fwl is pinned to ${FWL_TORCH_VERSION} "
                      "(results and headers differ between versions). Run ./launch/setup.sh, or point LIBTORCH elsewhere.")
endif()
message(STATUS "LibTorch ${fwl_version}: ${fwl_libtorch}")
get_filename_component(fwl_site "${fwl_libtorch}" DIRECTORY)

add_library(fwl_torch INTERFACE)
target_include_directories(fwl_torch SYSTEM INTERFACE "${fwl_libtorch}/include" "${fwl_libtorch}/include/torch/csrc/api/include")
target_link_directories(fwl_torch INTERFACE "${fwl_libtorch}/lib")
target_link_libraries(fwl_torch INTERFACE "${fwl_libtorch}/lib/libtorch_cpu.so" "${fwl_libtorch}/lib/libc10.so" ${CMAKE_DL_LIBS})
# A compiler without a shared libstdc++ of its own would link the static one, and the program would hold two: LibTorch's
# libraries bring the shared one.
execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libstdc++.so OUTPUT_VARIABLE fwl_libstdcxx OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT IS_ABSOLUTE "${fwl_libstdcxx}" OR NOT EXISTS "${fwl_libstdcxx}")
  find_file(fwl_libstdcxx_shared libstdc++.so.6 PATHS /lib/x86_64-linux-gnu /usr/lib/x86_64-linux-gnu /usr/lib64 REQUIRED NO_DEFAULT_PATH)
  target_link_libraries(fwl_torch INTERFACE ${fwl_libstdcxx_shared})
endif()
# LibTorch's libraries name others (CUPTI, the CUDA runtime) that its own RPATH finds when it is loaded.
target_link_options(fwl_torch INTERFACE "LINKER:--allow-shlib-undefined" "LINKER:-rpath,${fwl_libtorch}/lib")

find_package(Threads REQUIRED)
find_package(ZLIB REQUIRED)
find_package(MPI REQUIRED COMPONENTS CXX)
add_library(fwl_mpi INTERFACE)
target_link_libraries(fwl_mpi INTERFACE MPI::MPI_CXX)
target_compile_definitions(fwl_mpi INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)

set(HDF5_PREFER_PARALLEL OFF)
find_package(HDF5 REQUIRED COMPONENTS C)
add_library(fwl_hdf5 INTERFACE)
target_include_directories(fwl_hdf5 SYSTEM INTERFACE ${HDF5_INCLUDE_DIRS})
target_link_libraries(fwl_hdf5 INTERFACE ${HDF5_C_LIBRARIES})

# spdlog and yaml-cpp are linked statically (or header-only) so that a binary runs where only their
# shared libraries of another version are.
find_path(fwl_spdlog_include spdlog/spdlog.h REQUIRED)
find_package(fmt REQUIRED)
add_library(fwl_spdlog INTERFACE)
target_include_directories(fwl_spdlog SYSTEM INTERFACE ${fwl_spdlog_include})
target_compile_definitions(fwl_spdlog INTERFACE SPDLOG_FMT_EXTERNAL)
target_link_libraries(fwl_spdlog INTERFACE fmt::fmt-header-only Threads::Threads)
find_path(fwl_yaml_include yaml-cpp/yaml.h REQUIRED)
find_library(fwl_yaml_library NAMES libyaml-cpp.a REQUIRED)
add_library(fwl_yaml INTERFACE)
target_include_directories(fwl_yaml SYSTEM INTERFACE ${fwl_yaml_include})
target_link_libraries(fwl_yaml INTERFACE ${fwl_yaml_library})

find_path(fwl_json_include nlohmann/json.hpp REQUIRED)
add_library(fwl_json INTERFACE)
target_include_directories(fwl_json SYSTEM INTERFACE ${fwl_json_include})
find_path(fwl_cli_include CLI/CLI.hpp REQUIRED)
add_library(fwl_cli INTERFACE)
target_include_directories(fwl_cli SYSTEM INTERFACE ${fwl_cli_include})
find_path(fwl_sentencepiece_include sentencepiece_trainer.h REQUIRED)
find_library(fwl_sentencepiece_library sentencepiece REQUIRED)
find_library(fwl_sentencepiece_train_library sentencepiece_train REQUIRED)
add_library(fwl_sentencepiece INTERFACE)
target_include_directories(fwl_sentencepiece SYSTEM INTERFACE ${fwl_sentencepiece_include})
target_link_libraries(fwl_sentencepiece INTERFACE ${fwl_sentencepiece_train_library} ${fwl_sentencepiece_library})

find_path(fwl_zstd_include zstd.h REQUIRED)
find_library(fwl_zstd_library zstd REQUIRED)
# setup.sh installs both; without them their files are refused by name.
find_package(BZip2)
find_package(LibLZMA)
add_library(fwl_compression INTERFACE)
target_include_directories(fwl_compression SYSTEM INTERFACE ${fwl_zstd_include})
target_link_libraries(fwl_compression INTERFACE ${fwl_zstd_library} ZLIB::ZLIB
  $<$<BOOL:${BZIP2_FOUND}>:BZip2::BZip2> $<$<BOOL:${LIBLZMA_FOUND}>:LibLZMA::LibLZMA>)

# CUDA: nvcc compiles the kernels, the CUDA runtime and NCCL are those that LibTorch itself loads.
# libtorch_cuda is not linked but loaded when a GPU is there (core/base/device.h), so one binary runs on both.
set(FWL_HAVE_CUDA OFF)
if(NOT FWL_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  find_path(fwl_nccl_include nccl.h HINTS "${fwl_site}/nvidia/nccl/include" NO_DEFAULT_PATH)
  find_file(fwl_nccl_library libnccl.so.2 HINTS "${fwl_site}/nvidia/nccl/lib" NO_DEFAULT_PATH)
  find_file(fwl_cudart_library libcudart.so.13 HINTS "${fwl_site}/nvidia/cu13/lib" NO_DEFAULT_PATH)
  if(CMAKE_CUDA_COMPILER AND fwl_nccl_include AND fwl_nccl_library AND fwl_cudart_library)
    set(FWL_HAVE_CUDA ON)
  elseif(FWL_CUDA STREQUAL "ON")
    message(FATAL_ERROR "FWL_CUDA=ON, but something is missing: nvcc '${CMAKE_CUDA_COMPILER}', nccl.h '${fwl_nccl_include}', "
                        "libnccl '${fwl_nccl_library}', libcudart '${fwl_cudart_library}'. Run ./launch/setup.sh --cuda, "
                        "install a CUDA 13 toolkit, or configure with -DFWL_CUDA=OFF.")
  endif()
endif()
if(FWL_HAVE_CUDA)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80 90 100)  # A100, H100 and H200, B200; later ones through PTX
  endif()
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_RUNTIME_LIBRARY None)
  enable_language(CUDA)
  # nvcc's host compiler may be another gcc: its folders must not lead the linker to a second libstdc++.
  set(CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES "")
  set(CMAKE_CUDA_IMPLICIT_LINK_LIBRARIES "")
  add_library(fwl_cuda INTERFACE)
  target_include_directories(fwl_cuda SYSTEM INTERFACE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  target_link_libraries(fwl_cuda INTERFACE "${fwl_libtorch}/lib/libc10_cuda.so" ${fwl_cudart_library})
  target_link_options(fwl_cuda INTERFACE "LINKER:-rpath,${fwl_site}/nvidia/cu13/lib")
  target_link_libraries(fwl_torch INTERFACE fwl_cuda)
  add_library(fwl_nccl INTERFACE)
  target_include_directories(fwl_nccl SYSTEM INTERFACE ${fwl_nccl_include})
  target_link_libraries(fwl_nccl INTERFACE ${fwl_nccl_library})
  target_link_options(fwl_nccl INTERFACE "LINKER:-rpath,${fwl_site}/nvidia/nccl/lib")
endif()
message(STATUS "CUDA and NCCL: ${FWL_HAVE_CUDA} (FWL_CUDA=${FWL_CUDA})")

# cuDNN's fused attention: headers alone (the library is the one that LibTorch loads). Without them LibTorch's attention runs.
set(FWL_HAVE_CUDNN OFF)
if(FWL_HAVE_CUDA)
  find_path(fwl_cudnn_frontend_include cudnn_frontend.h HINTS "${fwl_deps}/cudnn-frontend/include" "${fwl_site}/include")
  find_path(fwl_cudnn_include cudnn.h HINTS "${fwl_site}/nvidia/cudnn/include" ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  if(fwl_cudnn_frontend_include AND fwl_cudnn_include)
    set(FWL_HAVE_CUDNN ON)
    add_library(fwl_cudnn INTERFACE)
    target_include_directories(fwl_cudnn SYSTEM INTERFACE ${fwl_cudnn_frontend_include} ${fwl_cudnn_include})
    target_compile_definitions(fwl_cudnn INTERFACE NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING CUDNN_FRONTEND_SKIP_JSON_LIB)
  endif()
endif()
message(STATUS "cuDNN attention: ${FWL_HAVE_CUDNN} (frontend headers '${fwl_cudnn_frontend_include}', cudnn.h '${fwl_cudnn_include}')")
