#include "core/base/system_error.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <functional>

#include "core/base/file.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

TEST(SystemError, EachErrnoSaysItsOwnWordsAndWhatToDo) {
  const struct {
    int error;
    bool may_pass, is_missing;
    const char *words, *advice;
  } cases[] = {{EMFILE, true, false, "Too many open files", "ulimit -n"},
               {ENFILE, true, false, "Too many open files in system", "fs.file-max"},
               {ENOMEM, true, false, "Cannot allocate memory", "memory"},
               {EIO, true, false, "Input/output error", "disk"},
               {ESTALE, true, false, "Stale file handle", "file server"},
               {ETIMEDOUT, true, false, "timed out", "file server"},
               {ENOTCONN, true, false, "not connected", "file server"},
               {EREMOTEIO, true, false, "Remote I/O error", "file server"},
               {ENODEV, true, false, "No such device", "disk"},
               {EINTR, true, false, "Interrupted", "start again"},
               {EACCES, false, false, "Permission denied", "right"},
               {EPERM, false, false, "Operation not permitted", "right"},
               {ENOENT, false, true, "No such file or directory", "path"},
               {ENOTDIR, false, true, "Not a directory", "path"},
               {ENOSPC, false, false, "No space left on device", "Free space"},
               {EDQUOT, false, false, "quota", "Free space"}};
  for (const auto& c : cases) {
    const SystemError error(c.error, "shard 'x' cannot be read");
    const std::string message = error.what();
    EXPECT_NE(message.find(c.words), std::string::npos) << message;
    EXPECT_NE(message.find(c.advice), std::string::npos) << message;
    EXPECT_EQ(error.may_pass(), c.may_pass) << message;
    EXPECT_EQ(error.is_missing(), c.is_missing) << message;
    EXPECT_TRUE(is_unavailable(c.error)) << message;
    EXPECT_EQ(error.code(), ExitCode::kData);
  }
  for (const int of_damage : {0, EINVAL, EFBIG, EOVERFLOW})
    EXPECT_FALSE(is_unavailable(of_damage)) << of_damage;
}

TEST(SystemError, WhatMayPassIsTriedAgainAndNothingElse) {
  int tried = 0;
  const auto fails_once = [&](int error) {
    return [&tried, error] {
      if (++tried == 1) throw SystemError(error, "it");
      return tried;
    };
  };
  EXPECT_EQ(patiently(fails_once(ESTALE)), 2);
  tried = 0;
  EXPECT_THROW(patiently(fails_once(EACCES)), SystemError);
  EXPECT_EQ(tried, 1);
}

TEST(ReadFile, WhatCannotBeReadIsUnavailableWhatIsNoFileIsNot) {
  const TemporaryFolder folder;
  write_text(folder / "long", std::string(100, 'x'));
  EXPECT_THROW(read_file(folder / "none", "thing"), UnavailableError);
  EXPECT_THROW(read_file(folder / "long/deeper", "thing"), UnavailableError);
  EXPECT_THROW(read_file(folder.path(), "thing"), DataError);
  EXPECT_THROW(read_file("/dev/zero", "thing"), DataError);
  EXPECT_THROW(read_file(folder / "long", "thing", 99), DataError);
  EXPECT_EQ(read_file(folder / "long", "thing", 100).size(), 100u);
  EXPECT_FALSE(read_file("/proc/self/status", "thing").empty());
}

}  // namespace
}  // namespace fwl
