#include "core/base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "core/base/error.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

TEST(PublishFile, ReplacesAFileWhole) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/a";
  publish_file(path, "first, longer");
  publish_file(path, "second");
  EXPECT_EQ(read_file(path, "file"), "second");
}

TEST(PublishFile, LeavesPipesAndFoldersAloneAndNoTemporaryFile) {
  const TemporaryFolder folder;
  const std::string pipe = folder.path() + "/pipe", inner = folder.path() + "/inner";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::filesystem::create_directory(inner);
  EXPECT_THROW(publish_file(pipe, "x"), DataError);
  EXPECT_THROW(publish_file(inner, "x"), DataError);
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  EXPECT_TRUE(std::filesystem::is_empty(inner));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 2);
}

TEST(PublishFile, SaysWhichFolderIsMissing) {
  const TemporaryFolder folder;
  try {
    publish_file(folder.path() + "/none/a", "x");
    FAIL() << "no error";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("/none/a"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace fwl
