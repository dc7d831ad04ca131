// What control costs as ranks grow: 12 ranks over TCP, an own mpirun of this program (the scenario is the
// disabled test). Messages and connections between all pairs would be 11 a rank.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <filesystem>

#include "core/base/error.h"
#include "parallel/session.h"
#include "parallel/texts.h"

namespace fwl {
namespace {

constexpr int kRanks = 12;

// TCP connections of this process.
int connections() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::atoi(entry.path().filename().c_str());
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0 && peer.ss_family != AF_UNIX)
      ++count;
  }
  return count;
}

TEST(Scenario, DISABLED_Control) {
  const auto group = make_world_communicator(60);
  const auto& traffic = group->traffic();
  require_same_text(*group, "the config", "same");
  EXPECT_EQ(traffic.all_gather.messages, 4) << "log2 of 12 ranks, rounded up";
  EXPECT_EQ(static_cast<int>(gather_texts(*group, cat("rank ", group->rank())).size()), kRanks);
  EXPECT_EQ(traffic.all_gather.messages, 12) << "three gathers";
  EXPECT_EQ(traffic.all_gather.calls, 3);
  EXPECT_TRUE(all_agree(*group, Vote::kYes));
  // One of a rank's connections is to MPI's daemon. With ranks so few, steps of 1, 2, 4 and MPI's own trees
  // reach most of the others, but not all; with many, some dozens.
  const int own_connections = connections() - 1;
  const double all_connections = all_reduce_scalar_sum(*group, own_connections);
  fprintf(stderr, "rank %d: %d connections\n", group->rank(), own_connections);
  EXPECT_LE(all_connections, 0.9 * kRanks * (kRanks - 1));
  // Messages between all pairs, for comparison.
  const Tensor own = at::ones({1}), all = at::empty({kRanks});
  group->all_gather(all, own, purpose::kState);
  EXPECT_EQ(traffic.all_gather.messages, 12 + kRanks - 1);
  EXPECT_GE(connections() - 1, kRanks - 1);
  group->barrier();
}

TEST(ControlMessages, ConnectARankWithFewOthers) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe");
  const std::string command =
      cat("exec timeout 100 mpirun --allow-run-as-root --oversubscribe --bind-to none --mca btl tcp,self "
          "--mca btl_tcp_if_include lo -n ",
          kRanks, " '", program,
          "' --gtest_also_run_disabled_tests --gtest_filter=Scenario.DISABLED_Control 2>&1");
  std::string output;
  FILE* pipe = popen(command.c_str(), "r");
  std::array<char, 4096> text;
  while (fgets(text.data(), text.size(), pipe) != nullptr) output += text.data();
  const int status = pclose(pipe);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << output;
}

}  // namespace
}  // namespace fwl
