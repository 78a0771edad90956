"""The S3 filesystem that Ray Train itself is handed: one that outlasts a restart of the store."""

import s3fs


class PatientS3FileSystem(s3fs.S3FileSystem):
    """s3fs tries five times, two seconds in all; with fourteen it is a minute and a half.

    A class and not an attribute: filesystems travel to the workers as their class and arguments.
    """

    retries = 14
