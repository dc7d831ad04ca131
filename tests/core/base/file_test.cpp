#include "core/base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "core/base/error.h"
#include "core/base/new_file.h"
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

TEST(NewFile, IsWholeOrNotThereAndTouchesNothingElse) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/a", beside = cat(path, ".tmp-", ::getpid());
  write_text(beside, "somebody's");
  {
    NewFile file(path);
    file.write("half");
    file.flush();
    EXPECT_EQ(read_file(file.temporary(), "file"), "half");
    EXPECT_FALSE(std::filesystem::exists(path));
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
  const std::string much(200'000, 'x');
  NewFile file(path), second(path);
  file.write("a");
  file.write(much);
  file.write("z");
  second.write("second");
  file.publish();
  EXPECT_EQ(read_file(path, "file"), "a" + much + "z");
  second.publish();
  EXPECT_EQ(read_file(path, "file"), "second");
  EXPECT_EQ(read_file(beside, "file"), "somebody's");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 2);
}

}  // namespace
}  // namespace fwl
