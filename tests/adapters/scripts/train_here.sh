#!/bin/sh
echo "lr: $1"
