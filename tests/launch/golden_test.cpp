#include "launch/golden.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

std::vector<std::string> golden_files() {
  std::vector<std::string> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(FWL_SOURCE_DIR) + "/tests/golden")) {
    if (entry.path().extension() == ".h5") files.push_back(entry.path().string());
  }
  return files;
}

TEST(Golden, EveryFilePassesInBothPrecisionsForEveryChunkSize) {
  ASSERT_GE(golden_files().size(), 7u);
  for (const std::string& file : golden_files()) {
    for (const int64_t chunk : {1, 5, 64}) {
      for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
        const GoldenReport report = verify_golden(file, at::kCPU, dtype, chunk);
        EXPECT_TRUE(report.passed()) << file << " " << report.dtype << " chunk " << chunk << ": "
                                     << report.worst();
        EXPECT_GE(report.errors.size(), 12u);
      }
    }
  }
}

TEST(Golden, AnErrorAboveTheToleranceOrNotANumberFails) {
  EXPECT_TRUE((GoldenReport{"", "", 1e-9, {{"a", 1e-10}}}.passed()));
  EXPECT_FALSE((GoldenReport{"", "", 1e-9, {{"a", 1e-10}, {"b", 2e-9}}}.passed()));
  EXPECT_FALSE((GoldenReport{"", "", 1e-9, {{"a", std::nan("")}}}.passed()));
  EXPECT_FALSE((GoldenReport{"", "", 1e-9, {}}.passed()));
}

TEST(Golden, MissingFilesAreUnavailableAndDamagedOnesDataErrors) {
  TemporaryFolder folder;
  EXPECT_THROW(verify_golden(folder / "none.h5", at::kCPU, at::kDouble, 4), UnavailableError);
  write_text(folder / "text.h5", "no HDF5");
  EXPECT_THROW(verify_golden(folder / "text.h5", at::kCPU, at::kDouble, 4), DataError);
  const std::string whole = read_file(golden_files().front(), "golden");
  write_text(folder / "cut.h5", whole.substr(0, whole.size() / 2));
  EXPECT_THROW(verify_golden(folder / "cut.h5", at::kCPU, at::kDouble, 4), DataError);
}

}  // namespace
}  // namespace fwl
