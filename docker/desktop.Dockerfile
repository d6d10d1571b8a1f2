# Untested (see README.md). CPU only.
FROM ros:jazzy-ros-base

ENV PIP="--break-system-packages"
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip ros-jazzy-vision-msgs ros-jazzy-rosbag2-storage-mcap ros-jazzy-ros2bag \
    && rm -rf /var/lib/apt/lists/*
RUN pip3 install $PIP "numpy>=1.26,<3" "opencv-python-headless>=4.9,<6" "pillow>=10,<14" "PyYAML>=6,<7" \
    "matplotlib>=3.8,<4" "mcap>=1.1,<2" "rich>=13,<16" "safetensors>=0.4.3,<0.9" "scipy>=1.11,<2" "typer>=0.12,<0.30" \
    && pip3 install $PIP --index-url https://download.pytorch.org/whl/cpu torch

WORKDIR /ws
COPY . src/pomato_ros
RUN . /opt/ros/jazzy/setup.sh && colcon build --cmake-args -DBUILD_TESTING=OFF

RUN printf '#!/bin/sh\n. /opt/ros/jazzy/setup.sh\n. /ws/install/setup.sh\nexec "$@"\n' > /entrypoint.sh && chmod +x /entrypoint.sh
RUN useradd --create-home robot
USER robot
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "pomato_ros", "pomato.launch.py", "rviz:=false"]
