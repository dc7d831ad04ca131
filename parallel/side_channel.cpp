#include "parallel/side_channel.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <mpi.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <random>
#include <type_traits>

#include "core/base/error.h"
#include "parallel/mpi_check.h"

namespace fwl {
namespace {

sockaddr_in address_of(uint32_t ip, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ip;
  address.sin_port = htons(port);
  return address;
}

void add_addresses(PeerInfo* info) {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return;
  for (ifaddrs* i = all; i != nullptr && info->num_addresses < PeerInfo::kAddresses; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != AF_INET) continue;
    if ((i->ifa_flags & IFF_UP) == 0 || (i->ifa_flags & IFF_LOOPBACK) != 0) continue;
    info->addresses[info->num_addresses++] = reinterpret_cast<sockaddr_in*>(i->ifa_addr)->sin_addr.s_addr;
  }
  freeifaddrs(all);
}

}  // namespace

static_assert(std::is_trivially_copyable_v<PeerInfo> && std::is_trivially_copyable_v<SideChannel::Datagram>);

SideChannel::SideChannel(int rank, int size) : rank_(rank), peers_(static_cast<size_t>(size)) {
  socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in any = address_of(INADDR_ANY, 0);
  socklen_t length = sizeof any;
  require<CommError>(socket_ >= 0 && bind(socket_, reinterpret_cast<sockaddr*>(&any), length) == 0 &&
                         getsockname(socket_, reinterpret_cast<sockaddr*>(&any), &length) == 0,
                     "no UDP socket for the watchdog: ", std::strerror(errno),
                     " (late ranks could not be named). Allow local sockets.");
  PeerInfo own{};
  gethostname(own.host.data(), own.host.size() - 1);
  own.pid = static_cast<int32_t>(getpid());
  own.port = ntohs(any.sin_port);
  add_addresses(&own);
  FWL_MPI(MPI_Allgather(&own, sizeof own, MPI_BYTE, peers_.data(), sizeof own, MPI_BYTE, MPI_COMM_WORLD));
  std::random_device random;
  job_ = (static_cast<uint64_t>(random()) << 32) | random();
  FWL_MPI(MPI_Bcast(&job_, sizeof job_, MPI_BYTE, 0, MPI_COMM_WORLD));
}

SideChannel::~SideChannel() {
  if (socket_ >= 0) close(socket_);
}

bool SideChannel::same_host(int rank) const {
  const auto r = static_cast<size_t>(rank);
  return peers_[r].host == peers_[static_cast<size_t>(rank_)].host;
}

void SideChannel::send(int to, Datagram datagram) const {
  datagram.job = job_;
  datagram.from = rank_;
  const PeerInfo& peer = peers_[static_cast<size_t>(to)];
  const auto send_to = [&](uint32_t ip) {
    const sockaddr_in address = address_of(ip, peer.port);
    // What is lost is asked for again.
    (void)sendto(socket_, &datagram, sizeof datagram, MSG_DONTWAIT,
                 reinterpret_cast<const sockaddr*>(&address), sizeof address);
  };
  if (same_host(to)) return send_to(htonl(INADDR_LOOPBACK));
  for (int i = 0; i < peer.num_addresses; ++i) send_to(peer.addresses[static_cast<size_t>(i)]);
}

bool SideChannel::receive(Datagram* datagram, int timeout_ms) const {
  pollfd waiting{socket_, POLLIN, 0};
  if (poll(&waiting, 1, timeout_ms) <= 0) return false;
  const ssize_t got = recv(socket_, datagram, sizeof *datagram, MSG_DONTWAIT);
  if (got != static_cast<ssize_t>(sizeof *datagram) || datagram->job != job_) return false;
  datagram->text.back() = '\0';
  return datagram->from >= 0 && datagram->from < static_cast<int>(peers_.size());
}

std::string SideChannel::name_of(int rank) const {
  const PeerInfo& peer = peers_[static_cast<size_t>(rank)];
  return cat("rank ", rank, " (host ", peer.host.data(), ", process ", peer.pid, ")");
}

SideChannel::ProcessState SideChannel::process_state(int rank) const {
  if (!same_host(rank)) return ProcessState::kUnknown;
  std::ifstream file(cat("/proc/", peers_[static_cast<size_t>(rank)].pid, "/stat"));
  std::string line;
  if (!std::getline(file, line)) return ProcessState::kGone;
  const size_t name_end = line.rfind(')');
  const char state = name_end == std::string::npos || name_end + 2 >= line.size() ? '?' : line[name_end + 2];
  if (state == 'Z' || state == 'X') return ProcessState::kGone;
  return state == 'T' || state == 't' ? ProcessState::kStopped : ProcessState::kRuns;
}

}  // namespace fwl
