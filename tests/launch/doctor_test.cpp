#include "launch/doctor/doctor.h"

#include <gtest/gtest.h>
#include <filesystem>
#include <map>
#include <set>

#include "core/base/error.h"
#include "launch/doctor/ports.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

// Two hosts with two ranks each, all alike.
std::vector<RankFacts> healthy_ranks() {
  std::vector<RankFacts> ranks(4);
  for (int r = 0; r < 4; ++r) {
    RankFacts& rank = ranks[static_cast<size_t>(r)];
    rank.rank = r;
    rank.local_rank = r % 2;
    rank.host = r < 2 ? "a" : "b";
    rank.binary_hash = "1";
    rank.gpu = "H200";
    rank.gpu_bus = cat("bus", r % 2);
    rank.gpu_numa_node = rank.local_rank;
    rank.cores = {rank.local_rank};
    rank.numa_nodes = {rank.local_rank};
    rank.shared_memory_bytes = int64_t{1} << 30;
    rank.open_files = 1024;
    rank.libraries = {{"libmpi", "libmpi.so.40 (1 bytes)"}};
  }
  return ranks;
}
using Hosts = std::vector<std::string>;

TEST(DoctorChecks, HealthyRanksPassAll) {
  const auto ranks = healthy_ranks();
  for (const Check& check :
       {check_same_binary(ranks), check_same_config(ranks), check_same_libraries(ranks), check_gpus(ranks),
        check_cores(ranks), check_shared_memory(ranks), check_open_files(ranks)})
    EXPECT_EQ(check.verdict, Verdict::kOk) << check.name << ": " << check.detail;
}

TEST(DoctorChecks, FewOpenFilesAreAWarning) {
  auto ranks = healthy_ranks();
  ranks[2].open_files = 160;
  const Check check = check_open_files(ranks);
  EXPECT_EQ(check.verdict, Verdict::kWarning);
  EXPECT_EQ(check.hosts, Hosts{"b"});
  EXPECT_NE(check.detail.find("160"), std::string::npos) << check.detail;
}

TEST(DoctorChecks, TheMinorityIsAtFault) {
  auto ranks = healthy_ranks();
  ranks[0].binary_hash = "2";
  const Check check = check_same_binary(ranks);
  EXPECT_EQ(check.verdict, Verdict::kFailed);
  EXPECT_EQ(check.hosts, Hosts{"a"});
  EXPECT_NE(check.detail.find("rank 0 on a"), std::string::npos) << check.detail;
}

TEST(DoctorChecks, AnotherOrMissingLibraryIsNamed) {
  for (const bool missing : {false, true}) {
    auto ranks = healthy_ranks();
    ranks[3].libraries["libmpi"] = "libmpi.so.12 (1 bytes)";
    if (missing) ranks[3].libraries.clear();
    const Check check = check_same_libraries(ranks);
    EXPECT_EQ(check.verdict, Verdict::kFailed);
    EXPECT_EQ(check.hosts, Hosts{"b"});
    EXPECT_NE(check.detail.find("libmpi"), std::string::npos) << check.detail;
  }
}

TEST(DoctorChecks, GpusMustBeThereAndNotShared) {
  auto ranks = healthy_ranks();
  ranks[2].gpu.clear();
  EXPECT_EQ(check_gpus(ranks).hosts, Hosts{"b"});
  ranks = healthy_ranks();
  ranks[1].gpu_bus = ranks[0].gpu_bus;
  EXPECT_EQ(check_gpus(ranks).verdict, Verdict::kFailed);
  EXPECT_EQ(check_gpus(ranks).hosts, Hosts{"a"});
  ranks = healthy_ranks();
  ranks[3].gpu = "A100";
  EXPECT_EQ(check_gpus(ranks).verdict, Verdict::kWarning);
  for (RankFacts& rank : ranks) rank.gpu.clear();
  EXPECT_EQ(check_gpus(ranks).verdict, Verdict::kOk) << "a job on CPUs needs none";
  for (RankFacts& rank : ranks) rank.gpu_problem = "no driver";
  EXPECT_EQ(check_gpus(ranks).verdict, Verdict::kFailed) << "but not when cuda was asked for";
}

TEST(DoctorChecks, SharedCoresFarCoresAndLittleSharedMemoryAreWarnings) {
  auto ranks = healthy_ranks();
  ranks[1].cores = {0, 1};
  EXPECT_EQ(check_cores(ranks).verdict, Verdict::kWarning);
  ranks = healthy_ranks();
  ranks[3].numa_nodes = {0};
  EXPECT_EQ(check_cores(ranks).hosts, Hosts{"b"});
  ranks = healthy_ranks();
  ranks[2].shared_memory_bytes = 1 << 20;
  EXPECT_EQ(check_shared_memory(ranks).hosts, Hosts{"b"});
}

TEST(DoctorPorts, AnOpenPortIsReachedAndAClosedOneIsReported) {
  int closed_port = 0;
  {
    const Listeners closed(1);
    ASSERT_EQ(closed.ports().size(), 1u);
    closed_port = closed.ports()[0];
    EXPECT_EQ(try_to_connect({"127.0.0.1"}, closed_port, 5), "");
  }
  EXPECT_NE(try_to_connect({"127.0.0.1"}, closed_port, 5), "");
  EXPECT_NE(try_to_connect({}, closed_port, 5), "");
}

// More than a port's queue holds, were nobody to accept them.
TEST(DoctorPorts, EveryConnectionOfALargeJobIsAccepted) {
  const Listeners open(1);
  ASSERT_EQ(open.ports().size(), 1u);
  for (int i = 0; i < 300; ++i)
    ASSERT_EQ(try_to_connect({"127.0.0.1"}, open.ports()[0], 5), "") << "number " << i;
}

TEST(DoctorPorts, NoPortOfALargeJobGetsMoreThanAFewConnections) {
  for (const auto& [hosts, ranks_a_host] : {std::pair{1, 1}, {1, 12}, {18, 8}, {128, 8}, {200, 1}}) {
    std::vector<RankFacts> ranks(static_cast<size_t>(hosts * ranks_a_host));
    for (size_t r = 0; r < ranks.size(); ++r) {
      ranks[r].rank = static_cast<int>(r);
      ranks[r].host = cat("host", static_cast<int>(r) / ranks_a_host);
      ranks[r].ports = {1, 2, 3, 4, 5, 6, 7, 8};
    }
    std::map<std::pair<int, size_t>, int> taken;
    std::map<std::string, std::set<std::string>> reached;
    for (const RankFacts& own : ranks) {
      for (const Connection& c : connections_of(ranks, own)) {
        ++taken[{c.rank, c.port % 8}];
        reached[own.host].insert(ranks[static_cast<size_t>(c.rank)].host);
      }
    }
    for (const auto& [port, count] : taken)
      EXPECT_LE(count, 2 + hosts / 8 / ranks_a_host) << hosts << 'x' << ranks_a_host;
    for (const auto& [host, others] : reached) EXPECT_EQ(static_cast<int>(others.size()), hosts) << host;
  }
}

TEST(DoctorFacts, CoreRangesReadAsTheyAreWritten) {
  EXPECT_EQ(range_text({0, 1, 2, 5, 7, 8}), "0-2,5,7-8");
  EXPECT_EQ(parse_ranges("0-2,5,7-8"), (std::vector<int>{0, 1, 2, 5, 7, 8}));
  EXPECT_EQ(range_text({}), "");
  EXPECT_TRUE(parse_ranges("").empty());
}

TEST(Doctor, ThisNodeAloneIsCheckedAndLeavesNothingBehind) {
  const TemporaryFolder folder;
  DoctorOptions options;
  options.scope = Scope::kThisNode;
  options.device = "cpu";
  options.folder = folder.path();
  options.file_bytes = 1 << 20;
  const DoctorReport report = run_doctor(options);
  EXPECT_TRUE(report.passed()) << to_table(report);
  EXPECT_GT(report.file_system.write_bytes_s, 0);
  EXPECT_GT(report.flop_s.at(0), 0);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_FALSE(report.ranks.at(0).libraries.empty());
}

TEST(Doctor, AFolderThatCannotBeWrittenFails) {
  DoctorOptions options;
  options.scope = Scope::kThisNode;
  options.device = "cpu";
  options.depth = Depth::kChecks;
  options.folder = "/proc";
  const DoctorReport report = run_doctor(options);
  EXPECT_FALSE(report.passed());
  EXPECT_EQ(report.bad_hosts(), Hosts{report.ranks.at(0).host});
}

}  // namespace
}  // namespace fwl
