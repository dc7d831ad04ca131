// Small datagrams (UDP, IPv4 and IPv6) between the processes of a session, beside MPI and NCCL: they still
// flow when a communicator is stuck. Lossy by nature; whoever asks, asks again. Each carries a code under a
// key that rank 0 drew for the job: what others send is dropped.
//
// It serves messages alone, so a machine that allows no socket still trains: then nothing is sent or
// received.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "parallel/process_state.h"
#include "parallel/siphash.h"

namespace fwl {

// IPv6, or IPv4 in its mapped form; network byte order.
using NetAddress = std::array<uint8_t, 16>;

// What a rank tells the others of itself.
struct PeerInfo {
  static constexpr int kAddresses = 8;
  std::array<char, 64> host;
  ProcessPlace place;
  uint16_t port = 0;  // 0: it has no socket
  uint16_t num_addresses = 0;
  std::array<NetAddress, kAddresses> addresses;
};

class SideChannel {
 public:
  enum class Kind : uint32_t { kQuestion = 1, kAnswer = 2, kEnd = 3 };
  struct Datagram {
    uint64_t code = 0;  // of all that follows
    Kind kind = Kind::kQuestion;
    int32_t from = 0;
    uint64_t group = 0;
    int64_t number = 0;  // answers: operations that the sender has entered; kEnd: exit code
    int64_t origin = 0;  // kEnd: the rank that ended the job
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
  ProcessState process_state(int rank) const;

 private:
  int rank_;
  int socket_ = -1;
  int family_ = 0;  // AF_INET6 (which takes both), or AF_INET
  SipKey key_{};
  std::vector<PeerInfo> peers_;
};

}  // namespace fwl
