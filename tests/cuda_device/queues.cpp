// Streams, events and graphs.  Work runs when it is enqueued or, with `late`, when somebody waits for it.
#include "queues.h"

#include <algorithm>
#include <ctime>

namespace device {

bool in_graph;
static std::vector<Stream*> streams;
static Stream null_stream(true);

Stream* stream_of(void* handle) {
  auto number = reinterpret_cast<uintptr_t>(handle);
  if (number <= 2) return &null_stream;  // 0, and the legacy and per-thread handles 1 and 2
  auto stream = static_cast<Stream*>(handle);
  return std::find(streams.begin(), streams.end(), stream) == streams.end() ? nullptr : stream;
}

int make_stream(void** handle, bool blocking) {
  streams.push_back(new Stream(blocking));
  *handle = streams.back();
  return kOk;
}

bool capturing_anywhere() {
  return std::any_of(streams.begin(), streams.end(), [](Stream* s) { return s->capture != nullptr; });
}

static int drain(Stream* stream, uint64_t up_to) {
  while (stream->finished < up_to && !stream->queue.empty()) {
    Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    int status = work();
    stream->finished++;
    if (status) {
      stream->finished += stream->queue.size();
      stream->queue.clear();
      return status;
    }
  }
  return kOk;
}

static void push(Stream* stream, Work work) {
  stream->queue.push_back(std::move(work));
  stream->enqueued++;
}

static void push_wait(Stream* stream, Stream* other) {
  uint64_t position = other->enqueued;
  if (position > other->finished) push(stream, [other, position] { return drain(other, position); });
}

int enqueue(void* handle, Work work, const char* what, bool capturable) {
  Stream* stream = stream_of(handle);
  if (!stream) return fail(kInvalidHandle, "%s on a stream that does not exist", what);
  if (stream->capture) {
    if (!capturable) {
      stream->capture->invalid = true;
      return fail(kCaptureUnsupported, "%s cannot be captured", what);
    }
    stream->capture->nodes.push_back(std::move(work));
    return kOk;
  }
  if (stream == &null_stream) {
    for (Stream* other : streams) {
      if (!other->blocking) continue;
      if (other->capture) {
        other->capture->invalid = true;
        return fail(kCaptureImplicit, "%s on the default stream, which would wait for a stream that is captured", what);
      }
      push_wait(stream, other);
    }
  } else if (stream->blocking) {
    push_wait(stream, &null_stream);
  }
  push(stream, std::move(work));
  return settings.late ? kOk : drain(stream, stream->enqueued);
}

int synchronize(void* handle) {
  Stream* stream = stream_of(handle);
  if (!stream) return fail(kInvalidHandle, "waits for a stream that does not exist");
  if (stream->capture) {
    stream->capture->invalid = true;
    return fail(kCaptureUnsupported, "waits for a stream that is captured");
  }
  if (stream == &null_stream)
    for (Stream* other : streams)
      if (other->blocking && !other->capture)
        if (int status = drain(other, other->enqueued)) return status;
  return drain(stream, stream->enqueued);
}

int synchronize_all() {
  for (Stream* stream : streams) {
    if (stream->capture) {
      stream->capture->invalid = true;
      return fail(kCaptureUnsupported, "waits for the device while a stream is captured");
    }
  }
  int status = drain(&null_stream, null_stream.enqueued);
  for (Stream* stream : streams)
    if (int s = drain(stream, stream->enqueued)) status = s;
  return status;
}

int destroy_stream(void* handle) {
  Stream* stream = stream_of(handle);
  if (!stream || stream == &null_stream) return fail(kInvalidHandle, "destroys a stream that does not exist");
  int status = drain(stream, stream->enqueued);
  streams.erase(std::find(streams.begin(), streams.end(), stream));
  return status;  // kept in memory: events may point to it
}

bool idle(Stream* stream) { return stream->finished >= stream->enqueued; }

// Events ---------------------------------------------------------------------------------------------
static double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) * 1e3 + double(t.tv_nsec) * 1e-6;
}

int record_event(Event* event, void* handle) {
  Stream* stream = stream_of(handle);
  if (!stream) return fail(kInvalidHandle, "records an event on a stream that does not exist");
  event->stream = stream;
  event->capture = stream->capture;
  if (stream->capture) return kOk;
  int status = enqueue(handle, [event] { return event->time = now(), kOk; }, "an event");
  event->position = stream->enqueued;
  event->recorded = true;
  return status;
}

int wait_event(void* handle, Event* event) {
  Stream* stream = stream_of(handle);
  if (!stream) return fail(kInvalidHandle, "a stream that does not exist waits for an event");
  if (event->capture) {  // the capture goes on in this stream too
    stream->capture = event->capture;
    return kOk;
  }
  if (!event->recorded) return kOk;
  Stream* other = event->stream;
  uint64_t position = event->position;
  return enqueue(handle, [other, position] { return drain(other, position); }, "a wait for an event");
}

int synchronize_event(Event* event) {
  if (event->capture) return fail(kCaptureUnsupported, "waits for an event that is captured");
  return event->recorded ? drain(event->stream, event->position) : int(kOk);
}

bool event_happened(Event* event) { return !event->recorded || event->stream->finished >= event->position; }

// Graphs ---------------------------------------------------------------------------------------------
int begin_capture(void* handle) {
  Stream* stream = stream_of(handle);
  if (!stream) return fail(kInvalidHandle, "captures a stream that does not exist");
  if (stream == &null_stream) return fail(kCaptureUnsupported, "the default stream cannot be captured");
  if (stream->capture) return fail(kCaptureUnsupported, "captures a stream that is captured already");
  stream->capture = new Graph{stream, {}, false};
  return kOk;
}

int end_capture(void* handle, Graph** graph) {
  Stream* stream = stream_of(handle);
  *graph = nullptr;
  if (!stream || !stream->capture) return fail(kInvalidValue, "ends a capture that never began");
  Graph* made = stream->capture;
  if (made->origin != stream) return fail(kCaptureUnjoined, "ends a capture in another stream than it began in");
  for (Stream* other : streams)
    if (other->capture == made) other->capture = nullptr;
  if (made->invalid) return fail(kCaptureInvalidated, "the capture has been broken by a call that it does not allow");
  *graph = made;
  return kOk;
}

int launch_graph(Graph* graph, void* handle) {
  counters.graph_launches++;
  std::vector<Work> nodes = graph->nodes;
  return enqueue(
      handle,
      [nodes] {
        in_graph = true;
        int status = kOk;
        for (const Work& node : nodes)
          if ((status = node())) break;
        in_graph = false;
        return status;
      },
      "a launch of a graph", false);
}

}  // namespace device
