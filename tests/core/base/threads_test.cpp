#include "core/base/threads.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "core/base/error.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

constexpr const char* kVersion1 =
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 master:1 - cgroup cgroup rw,cpu\n";
constexpr const char* kVersion2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";

struct Case {
  const char* what;
  std::string mounts, groups;
  std::vector<std::pair<std::string, std::string>> files;  // below /sys/fs/cgroup
  double quota;                                            // 0: none
};

TEST(CpuQuota, IsTheTightestOfAllLevels) {
  const std::vector<Case> cases = {
      {"no cgroups", "", "", {}, 0},
      {"version 1, none",
       kVersion1,
       "2:cpu:/\n",
       {{"cpu/cpu.cfs_quota_us", "-1"}, {"cpu/cpu.cfs_period_us", "100000"}},
       0},
      {"version 1, half a core",
       kVersion1,
       "3:cpuacct:/other\n2:cpu:/fwl\n",
       {{"cpu/fwl/cpu.cfs_quota_us", "50000"}, {"cpu/fwl/cpu.cfs_period_us", "100000"}},
       0.5},
      {"version 1, a parent's",
       kVersion1,
       "2:cpu:/a/b/c\n",
       {{"cpu/a/cpu.cfs_quota_us", "150000"},
        {"cpu/a/cpu.cfs_period_us", "100000"},
        {"cpu/a/b/c/cpu.cfs_quota_us", "400000"},
        {"cpu/a/b/c/cpu.cfs_period_us", "100000"}},
       1.5},
      {"version 1, two controllers in one mount",
       "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
       "4:cpu,cpuacct:/job\n",
       {{"cpu,cpuacct/job/cpu.cfs_quota_us", "300000"}, {"cpu,cpuacct/job/cpu.cfs_period_us", "100000"}},
       3},
      {"version 2, max", kVersion2, "0::/a\n", {{"a/cpu.max", "max 100000"}}, 0},
      {"version 2", kVersion2, "0::/a\n", {{"a/cpu.max", "250000 100000"}}, 2.5},
      {"version 2, nested",
       kVersion2,
       "0::/a/b\n",
       {{"a/cpu.max", "700000 100000"}, {"a/b/cpu.max", "max 100000"}, {"cpu.max", "900000 100000"}},
       7},
      {"version 2, no file at the leaf", kVersion2, "0::/a/b\n", {{"a/cpu.max", "200000 100000"}}, 2},
      {"version 2, its own namespace", kVersion2, "0::/\n", {{"cpu.max", "100000 100000"}}, 1},
      {"version 2, named as the host sees it",
       kVersion2,
       "0::/../../host/name\n",
       {{"cpu.max", "100000 100000"}},
       1},
      {"version 2, a mount of one folder",
       "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
       "0::/docker/abc/job\n",
       {{"job/cpu.max", "200000 100000"}, {"cpu.max", "400000 100000"}},
       2},
      {"version 1, a container named as its host sees it",
       "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n",
       "2:cpu:/elsewhere\n",
       {{"cpu/cpu.cfs_quota_us", "200000"}, {"cpu/cpu.cfs_period_us", "100000"}},
       2},
      {"both versions",
       std::string(kVersion1) + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
       "2:cpu:/x\n0::/y\n",
       {{"cpu/x/cpu.cfs_quota_us", "400000"},
        {"cpu/x/cpu.cfs_period_us", "100000"},
        {"unified/y/cpu.max", "300000 100000"}},
       3},
      {"a name with a blank",
       "30 23 0:26 / /sys/fs/cgroup\\040here rw - cgroup2 cgroup2 rw\n",
       "0::/\n",
       {{"../cgroup here/cpu.max", "100000 100000"}},
       1},
      {"garbage", kVersion2, "0::/a\n", {{"a/cpu.max", "what is this"}}, 0},
  };
  for (const Case& c : cases) {
    const TemporaryFolder root;
    write_text(root / "proc/self/mountinfo", c.mounts);
    write_text(root / "proc/self/cgroup", c.groups);
    write_text(root / "sys/fs/cgroup/mark", "");
    for (const auto& [name, text] : c.files) write_text(root / ("sys/fs/cgroup/" + name), text + "\n");
    const double quota = cpu_quota(root.path());
    if (c.quota == 0) {
      EXPECT_TRUE(std::isinf(quota)) << c.what << ": " << quota;
    } else {
      EXPECT_DOUBLE_EQ(quota, c.quota) << c.what;
    }
    // The scripts count alike.
    const std::string script =
        "bash -c '. \"$0\"; [ \"$(cpu_quota \"$1\")\" = \"$2\" ]' '" FWL_SOURCE_DIR "/launch/cores.sh' '" +
        root.path() + "' '" + (c.quota == 0 ? "" : std::to_string(static_cast<int>(std::ceil(c.quota)))) +
        "'";
    EXPECT_EQ(std::system(script.c_str()), 0) << c.what << ": launch/cores.sh counts otherwise";
  }
}

TEST(ThreadShare, IsAtLeastOneAndNeverBeyondAQuota) {
  const double none = HUGE_VAL;
  EXPECT_EQ(thread_share(8, none, 1), 8);
  EXPECT_EQ(thread_share(8, none, 3), 2);
  EXPECT_EQ(thread_share(2, none, 4), 1);
  EXPECT_EQ(thread_share(2, 0.5, 1), 1);
  EXPECT_EQ(thread_share(16, 2.5, 1), 3);
  EXPECT_EQ(thread_share(16, 4, 2), 2);
  EXPECT_EQ(thread_share(2, 64, 1), 2);
  EXPECT_EQ(thread_share(2, none, 0), 2);
}

TEST(ThreadsAskedFor, TakesWhatOpenMpTakesAndRefusesTheRest) {
  const char* before = std::getenv("OMP_NUM_THREADS");
  const std::string kept = before == nullptr ? "" : before;
  for (const auto& [text, threads] : std::vector<std::pair<std::string, int>>{
           {"", 0}, {"  ", 0}, {"1", 1}, {" 3 ", 3}, {"4,2", 4}, {"4, 2", 4}, {"00007", 7}}) {
    setenv("OMP_NUM_THREADS", text.c_str(), 1);
    EXPECT_EQ(threads_asked_for(), threads) << "'" << text << "'";
  }
  for (const char* text : {"0", "-1", "two", "2x", "2.5", ",", "4,", "4,x", "999999", "0x4", "4 2", "1e3"}) {
    setenv("OMP_NUM_THREADS", text, 1);
    EXPECT_THROW(threads_asked_for(), ConfigError) << "'" << text << "'";
  }
  unsetenv("OMP_NUM_THREADS");
  EXPECT_EQ(threads_asked_for(), 0);
  EXPECT_GE(threads_for(1), 1);
  if (before != nullptr) setenv("OMP_NUM_THREADS", kept.c_str(), 1);
}

}  // namespace
}  // namespace fwl
