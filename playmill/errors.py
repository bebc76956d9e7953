"""Everything this package raises. The class says what the queue should do.

PlaymillError
+- UsageError        the caller asked for something impossible   -> exit status 2; nothing starts
+- RecordingError    the input is bad; retrying cannot help      -> fail it; the batch goes on
|  +- MissingStream      no video in it, or a named file is not there
|  +- CorruptVideo       the video cannot be read or decoded
|  +- LogError           the input log cannot be read or trusted
|  +- ClockError         no clock, or video and log do not overlap
|  +- UnreadableSource   a file of it may not be read
|  +- SourceChanged      a file changed while it was read
|  +- SessionConflict    the target holds a dataset of another video
+- Superseded       a newer submission publishes the session       -> the job is cancelled
+- EncoderError      the encoder or its weights cannot be loaded -> fail it; mend, resubmit
|  +- EncoderUnavailable this host does not have them            -> leave it to another host
+- DecoderUnavailable this host has no such decoder              -> leave it to another host
+- DecoderDied       the decoding process crashed or hung        -> retry the chunk, bounded
+- JobUnreadable     the store's files about a job are damaged    -> say so; the others go on
+- PartError         a stored part is missing or damaged         -> redo that chunk
+- DiskFull          a folder cannot take more                  -> retry, bounded; make room
+- DatasetError      the HDF5 file is not what schema.py says    -> fail, keep the parts
(Anything else is a bug or a passing fault: OSError, out of memory, lost connection -> retry.)

Every exception keeps its arguments positionally, so that it survives pickling between processes.
"""

from __future__ import annotations


class PlaymillError(Exception):
    """Root of everything this package raises."""


class UsageError(PlaymillError, ValueError):
    """An argument or setting is wrong; the one argument is a sentence that says how to mend it."""


class RecordingError(PlaymillError):
    """A recording cannot become a dataset as it is.

    Args:
        path: the file or folder.
        place: where in it ("line 3", "video.file", "pts 900"); "" for the file as a whole.
        found: what is there.
        expected: what should be there.
        action: what a person can do about it.
    """

    def __init__(self, path: str, place: str, found: str, expected: str, action: str) -> None:
        super().__init__(path, place, found, expected, action)
        self.path, self.place = path, place
        self.found, self.expected, self.action = found, expected, action

    def __str__(self) -> str:
        where = f"{self.path}: {self.place}" if self.place else self.path
        return f"{where}: found {self.found}; expected {self.expected}. {self.action}"


class MissingStream(RecordingError):
    """A recording has no video, or a file that it names is missing."""


class CorruptVideo(RecordingError):
    """The video cannot be opened, indexed or decoded."""


class LogError(RecordingError):
    """The input log is not readable as its format."""


class ClockError(RecordingError):
    """The clock is unknown, or the log and the video do not overlap."""


class UnreadableSource(RecordingError):
    """A file of a recording may not be read.

    Args:
        path: the file.
        problem: what is wrong, and what to do.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, "", problem, "a file that may be read", problem)
        self.args = (path, problem)

    def __str__(self) -> str:
        return f"{self.path}: {self.found}"


class SourceChanged(RecordingError):
    """A source file changed between submission and reading, or while it was read."""


class SessionConflict(RecordingError):
    """The dataset of another video already has this session id."""


class Superseded(PlaymillError):
    """A newer submission of the same session has been published, or is about to be.

    Args:
        path: the target.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: a newer submission of this session takes its place"


class EncoderError(PlaymillError):
    """An encoder or its weights cannot be loaded, or do not fit the job.

    Args:
        encoder: the encoder's name.
        problem: what is wrong, with what was found and expected.
        action: what a person can do about it.
    """

    def __init__(self, encoder: str, problem: str, action: str) -> None:
        super().__init__(encoder, problem, action)
        self.encoder, self.problem, self.action = encoder, problem, action

    def __str__(self) -> str:
        return f"encoder {self.encoder}: {self.problem}. {self.action}"


class EncoderUnavailable(EncoderError):
    """This host does not have the encoder or its weights, or has others; another host may."""


class DecoderUnavailable(PlaymillError):
    """This host cannot decode with the decoder that was asked for; another host may.

    Args:
        decoder: the decoder's name.
        problem: what is missing or wrong.
        action: what a person can do about it.
    """

    def __init__(self, decoder: str, problem: str, action: str) -> None:
        super().__init__(decoder, problem, action)
        self.decoder, self.problem, self.action = decoder, problem, action

    def __str__(self) -> str:
        return f"decoder {self.decoder}: {self.problem}. {self.action}"


class DecoderDied(PlaymillError):
    """The process that decodes crashed or made no progress.

    Args:
        path: the video.
        place: how far it had come.
        how: "killed by signal 11", "no progress for 60 s", ...
    """

    def __init__(self, path: str, place: str, how: str) -> None:
        super().__init__(path, place, how)
        self.path, self.place, self.how = path, place, how

    def __str__(self) -> str:
        return f"{self.path}: {self.place}: the decoder died: {self.how}"


class JobUnreadable(PlaymillError):
    """What the store holds about a job cannot be read.

    Args:
        job_id: the job.
        problem: which file, and what is wrong with it.
    """

    def __init__(self, job_id: str, problem: str) -> None:
        super().__init__(job_id, problem)
        self.job_id, self.problem = job_id, problem

    def __str__(self) -> str:
        return (
            f"job {self.job_id[:12]} cannot be read: {self.problem}. Mend the disk or the"
            " permissions; or submit the recording again, which writes what is damaged anew"
        )


class PartError(PlaymillError):
    """A stored part is missing, damaged, or not the one its marker names.

    Args:
        path: the part's folder.
        problem: what is wrong with it, with the digests or shapes.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class DiskFull(PlaymillError):
    """The disk of a folder is full, or the quota there is used up.

    Args:
        path: the folder.
        free: how much room there is now.
        reason: the system's words.
    """

    def __init__(self, path: str, free: str, reason: str) -> None:
        super().__init__(path, free, reason)
        self.path, self.free, self.reason = path, free, reason

    def __str__(self) -> str:
        return (
            f"{self.path}: the disk is full ({self.free} free now; {self.reason}). Make room there,"
            " then run the same command again: what is finished is kept."
        )


class DatasetError(PlaymillError):
    """A dataset file is not what the schema promises.

    Args:
        path: the file.
        problem: which promise is broken, with what was found and expected.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"
