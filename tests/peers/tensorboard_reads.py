"""What TensorBoard itself reads of a log folder, as JSON on standard output."""

import io
import json
import sys
import wave

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

log = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "audio": 0, "images": 0})
log.Reload()
tags = log.Tags()


def sound(event):
    with wave.open(io.BytesIO(event.encoded_audio_string)) as file:
        frames = file.getnframes()
        loudest = max(abs(x) for x in memoryview(file.readframes(frames)).cast("h"))
        return {
            "step": event.step,
            "type": event.content_type,
            "rate_hz": [event.sample_rate, file.getframerate()],
            "frames": [event.length_frames, frames],
            "loudest": loudest,
        }


def picture(event):
    image = Image.open(io.BytesIO(event.encoded_image_string)).convert("L")
    return {
        "step": event.step,
        "size": [event.width, event.height],
        "decoded": list(image.size),
        "brightest": image.getextrema()[1],
    }


json.dump(
    {
        "scalars": {
            tag: [[event.step, event.value] for event in log.Scalars(tag)] for tag in tags["scalars"]
        },
        "audio": {tag: [sound(event) for event in log.Audio(tag)] for tag in tags["audio"]},
        "images": {tag: [picture(event) for event in log.Images(tag)] for tag in tags["images"]},
    },
    sys.stdout,
)
