// GoogleTest's main for serial and MPI tests: under a launcher a failure on one rank fails all, so that no
// rank reports success alone. Rank 0 prints everything, the others only their failures.
#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdio>

#include "parallel/session.h"

namespace {

class QuietPrinter : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.failed()) {
      fprintf(stderr, "[rank %d] %s:%d: %s\n", fwl::world().rank, result.file_name(), result.line_number(),
              result.summary());
    }
  }
};

}  // namespace

// Asked by LeakSanitizer: HDF5 keeps memory of files that it could not open.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libhdf5";
}

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const bool parallel = fwl::world().size > 1;
  if (fwl::world().rank != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new QuietPrinter);
  }
  int failed = RUN_ALL_TESTS();
  if (parallel) MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  fwl::finalize_session();
  return failed;
}
