"""The exchange room: a trained model as one thing, whoever wrote the folder; other projects' files, in and out."""
