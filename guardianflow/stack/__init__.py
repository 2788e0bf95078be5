"""The team's stack without Docker: the services of docker-compose.yml as programs of this machine."""
