// Small datagrams (UDP) between the processes of a session, beside MPI and NCCL: they still flow when a
// communicator is stuck. Lossy by nature; whoever asks, asks again. A random number that rank 0 drew keeps
// other jobs' datagrams out.
#pragma once

#include <netinet/in.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace fwl {

// What a rank tells the others of itself.
struct PeerInfo {
  static constexpr int kAddresses = 4;
  std::array<char, 64> host;
  int32_t pid = 0;
  uint16_t port = 0;
  uint16_t num_addresses = 0;
  std::array<uint32_t, kAddresses> addresses;  // IPv4, network byte order
};

class SideChannel {
 public:
  enum class Kind : uint32_t { kQuestion = 1, kAnswer = 2, kEnd = 3 };
  struct Datagram {
    uint64_t job = 0;
    Kind kind = Kind::kQuestion;
    int32_t from = 0;
    uint64_t group = 0;
    int64_t number = 0;  // answers: operations that the sender has entered; kEnd: its exit code
    std::array<char, 80> text{};
  };

  // Collective over MPI_COMM_WORLD. Throws CommError.
  SideChannel(int rank, int size);
  ~SideChannel();
  SideChannel(const SideChannel&) = delete;
  SideChannel& operator=(const SideChannel&) = delete;

  void send(int to, Datagram datagram) const;
  // Waits up to timeout_ms for one; false when none came.
  bool receive(Datagram* datagram, int timeout_ms) const;

  // "rank 2 (host a, process 123)"
  std::string name_of(int rank) const;
  enum class ProcessState { kUnknown, kRuns, kStopped, kGone };
  // From /proc when the rank is on this host, else kUnknown.
  ProcessState process_state(int rank) const;

 private:
  bool same_host(int rank) const;
  int rank_;
  int socket_ = -1;
  uint64_t job_ = 0;
  std::vector<PeerInfo> peers_;
};

}  // namespace fwl
